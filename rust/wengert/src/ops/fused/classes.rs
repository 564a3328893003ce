//! Classes as targets: checked against the input and the weights, and as a distribution.
//!
//! What is wrong with a target is found here, before any kernel runs: kernels take the element of a
//! class from memory without looking.

use super::for_user;
use super::reduction::Reduction;
use super::softmax::rows_along;
use crate::dtype::Element;
use crate::graph::{Attribute, Attributes, ValuesOnly};
use crate::kernels::softmax::Rows;
use crate::layout::Dims;
use crate::ops::{cast, mul, reduce, view};
use crate::tensor::Tensor;
use crate::{DType, Error, Kind, Result, Scalar, bail};
use smallvec::SmallVec;
use std::sync::Arc;

/// What is asked about the classes.
#[derive(Clone, Copy)]
pub struct Options<'a> {
    /// A factor for each class.
    pub weight: Option<&'a Tensor>,
    /// Rows with this class count nothing.
    pub ignore_index: i64,
    /// What happens to the losses of the rows.
    pub reduction: Reduction,
    /// The share of the target that is spread evenly over all classes.
    pub label_smoothing: f64,
}

impl Default for Options<'_> {
    fn default() -> Self {
        let reduction = Reduction::Mean;
        Options { weight: None, ignore_index: -100, reduction, label_smoothing: 0.0 }
    }
}

/// A checked problem. It owns copies of targets and weights, so that nobody changes them before
/// backward.
#[derive(Clone)]
pub(super) struct Classes {
    pub rows: Rows,
    /// The shape of the losses of all rows.
    pub shape: Dims,
    pub targets: Vec<i64>,
    pub weight: Option<Vec<f64>>,
    /// The types of both, for those who look at the node.
    pub dtypes: [DType; 2],
    pub ignore_index: i64,
    pub label_smoothing: f64,
    pub reduction: Reduction,
    /// What the gradient of a reduced loss is multiplied with: for a mean, 1 over the weights.
    pub scale: f64,
}

/// The axis of the classes.
pub(super) fn class_dim(x: &Tensor) -> usize {
    usize::from(x.ndim() > 1)
}

fn size_text(shape: &[usize]) -> String {
    format!("{shape:?}")
}

impl Classes {
    /// Checks input and target against each other.
    pub(super) fn new(x: &Tensor, target: &Tensor, options: Options) -> Result<Classes> {
        if x.ndim() == 0 {
            bail!(Value, "", "Expected 1 or more dimensions (got 0)");
        }
        if !matches!(target.dtype(), DType::Int64 | DType::UInt8) {
            let got = target.dtype().scalar_type_name();
            bail!(
                DType,
                "",
                "expected target dtype to be Long or Byte, but got {got}; class indices are whole \
                 numbers: convert with .long()"
            );
        }
        let rows = rows_along(x.shape(), class_dim(x));
        let mut shape: Dims = SmallVec::from_slice(x.shape());
        shape.remove(class_dim(x));
        if x.ndim() == 1 {
            if target.numel() != 1 || target.ndim() > 1 {
                let got = size_text(target.shape());
                bail!(
                    Shape,
                    "",
                    "For 1D input, 1D or 0D target of one element expected, got {got}"
                );
            }
            shape = SmallVec::from_slice(target.shape());
        } else {
            let batch = target.shape().first().copied().unwrap_or(0);
            if x.shape()[0] != batch {
                bail!(
                    Value,
                    "",
                    "Expected input batch_size ({}) to match target batch_size ({batch}).",
                    x.shape()[0]
                );
            }
            if x.ndim() == 2 && target.ndim() != 1 {
                bail!(
                    Shape,
                    "",
                    "0D or 1D target tensor expected, multi-target not supported (got shape {:?})",
                    target.shape()
                );
            }
            if target.shape() != &shape[..] {
                let (wanted, got) = (size_text(&shape), size_text(target.shape()));
                bail!(Shape, "", "Expected target size {wanted}, got {got}");
            }
        }
        let weight = match options.weight {
            Some(weight) => Some(check_weight(x, weight, rows.n)?.to_vec::<f64>()?),
            None => None,
        };
        let targets = target.to_vec::<i64>()?;
        let mut classes = Classes {
            rows,
            shape,
            targets,
            weight,
            dtypes: [target.dtype(), options.weight.map_or(x.dtype(), Tensor::dtype)],
            ignore_index: options.ignore_index,
            label_smoothing: options.label_smoothing,
            reduction: options.reduction,
            scale: 1.0,
        };
        let mut total = 0.0;
        for &t in &classes.targets {
            if t != classes.ignore_index && !(0..rows.n as i64).contains(&t) {
                let text = format!(
                    "Target {t} is out of bounds. There are {} classes, numbered from 0.",
                    rows.n
                );
                return Err(Error::plain(Kind::Index, text));
            }
            total += classes.class(t).map_or(0.0, |class| classes.weight_of(class));
        }
        if options.reduction == Reduction::Mean {
            classes.scale = 1.0 / total;
        }
        Ok(classes)
    }

    /// What a node keeps of them.
    pub(super) fn attributes(&self) -> Attributes {
        let given = |t: Result<Tensor>, dtype| t.and_then(|t| cast::to_dtype(&t, dtype)).ok();
        let target = given(Tensor::from_slice(&self.targets, &self.shape), self.dtypes[0]);
        let weight = self.weight.as_ref();
        let weight = weight.and_then(|w| given(Tensor::from_slice(w, &[w.len()]), self.dtypes[1]));
        let total: f64 = match self.reduction {
            Reduction::None => 0.0,
            _ => self.counted().map(|(_, class)| self.weight_of(class)).sum(),
        };
        let total = given(Tensor::from_slice(&[total], &[]), self.dtypes[1]);
        vec![
            ("target", Attribute::tensor(target)),
            ("weight", Attribute::tensor(weight)),
            ("reduction", self.reduction.attribute()),
            ("ignore_index", Attribute::int(self.ignore_index)),
            ("total_weight", Attribute::tensor(total)),
        ]
    }

    /// The class of a target, or none if it is ignored.
    pub(super) fn class(&self, target: i64) -> Option<usize> {
        (target != self.ignore_index).then_some(target as usize)
    }

    pub(super) fn weight_of(&self, class: usize) -> f64 {
        self.weight.as_ref().map_or(1.0, |w| w[class])
    }

    /// Where element `class` of a row is.
    pub(super) fn at(&self, row: usize, class: usize) -> usize {
        let Rows { n, inner, .. } = self.rows;
        (row / inner * n + class) * inner + row % inner
    }

    /// The rows that count, with their classes.
    pub(super) fn counted(&self) -> impl Iterator<Item = (usize, usize)> {
        self.targets.iter().enumerate().filter_map(|(row, &t)| Some((row, self.class(t)?)))
    }

    pub(super) fn weights_as<T: Element>(&self) -> Option<Vec<T>> {
        let weight = self.weight.as_ref()?;
        Some(weight.iter().map(|&w| T::from_scalar(Scalar::Float(w))).collect())
    }

    /// The target distribution `q` in the shape of `x`, and `Σ q` of each row.
    pub(super) fn distribution(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let n = self.rows.n;
        let mut q = vec![0.0; x.numel()];
        for (row, class) in self.counted() {
            if self.label_smoothing != 0.0 {
                for c in 0..n {
                    q[self.at(row, c)] = self.label_smoothing / n as f64 * self.weight_of(c);
                }
            }
            q[self.at(row, class)] += (1.0 - self.label_smoothing) * self.weight_of(class);
        }
        let _off = ValuesOnly::new();
        let q = for_user("cross_entropy", Tensor::from_slice(&q, x.shape())?, x.dtype().compute())?;
        let total = reduce::sum(&q, Some(&[class_dim(x) as i64]), true, None)?;
        Ok((q, total))
    }

    /// The same losses without a reduction.
    pub(super) fn unreduced(&self) -> Arc<Classes> {
        Arc::new(Classes { reduction: Reduction::None, scale: 1.0, ..self.clone() })
    }

    /// The gradient of the loss as one factor for each row, in the shape of `Σ q`.
    pub(super) fn row_factors(&self, g: &Tensor, x: &Tensor) -> Result<Tensor> {
        if self.reduction == Reduction::None {
            let mut shape: Dims = SmallVec::from_slice(x.shape());
            shape[class_dim(x)] = 1;
            view::reshape_to(g, &shape)
        } else {
            mul(g, &Tensor::wrapped(Scalar::Float(self.scale))?)
        }
    }
}

pub(super) fn check_weight<'t>(
    x: &Tensor,
    weight: &'t Tensor,
    classes: usize,
) -> Result<&'t Tensor> {
    if weight.shape() != [classes] {
        bail!(
            Shape,
            "",
            "weight tensor should be defined either for all {classes} classes or no classes but got \
             weight tensor of shape: {:?}",
            weight.shape()
        );
    }
    if weight.dtype() != x.dtype() {
        let [x, w] = [x, weight].map(|t| t.dtype().scalar_type_name());
        bail!(DType, "", "expected scalar type {x} but found {w} (the weights of the classes)");
    }
    Ok(weight)
}
