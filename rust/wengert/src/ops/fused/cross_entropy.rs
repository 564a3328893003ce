//! Cross entropy and negative log-likelihood.
//!
//! For logits `x` and a target distribution `q` over the classes of each row,
//!
//! ```text
//! loss = -Σ q log_softmax(x)         gx = g (softmax(x) Σ q - q)
//! ```
//!
//! With a class `t` per row, weights `w` and label smoothing `ε` over `n` classes,
//! `q = (1-ε) w_t onehot(t) + ε/n w` (Szegedy et al., 2016). Neither `q` nor the softmax is stored:
//! the forward kernel keeps two numbers a row, from which the backward kernel makes the gradient in
//! one pass. Only a second derivative writes `q` out.
//!
//! A mean divides by the weights of the classes that occur, not by the number of rows.

pub use super::classes::Options;
use super::classes::{Classes, check_weight, class_dim};
use super::reduction::{Reduction, reduce_to};
use super::softmax::{log_softmax, softmax, softmax_backward};
use super::{for_kernel, for_user, with_real};
use crate::batch::{Batching, compose};
use crate::dtype::Element;
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::kernels::softmax as kernels;
use crate::layout::Dims;
use crate::ops::tags::*;
use crate::ops::{Args, Call, Row, add, mul, reduce, unary, view};
use crate::tensor::Tensor;
use crate::{Result, Scalar, bail};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

fn check_input(op: &'static str, x: &Tensor) -> Result<()> {
    if !x.dtype().is_floating() {
        let kind = x.dtype().scalar_type_name();
        bail!(Unsupported, "", "\"{op}\" not implemented for '{kind}'; convert to a floating type");
    }
    Ok(())
}

/// Roles of saved tensors.
const X: u8 = 0;
const MAX: u8 = 1;
const LOG_SUM: u8 = 2;
const G: u8 = 3;

struct CrossEntropy(Arc<Classes>);

impl Op for CrossEntropy {
    /// The node that PyTorch, which composes the operation, would have recorded last.
    fn name(&self) -> &'static str {
        match self.0.rows.inner {
            _ if self.0.label_smoothing != 0.0 => "AddBackward0",
            _ if self.0.shape.len() > 1 => "NllLoss2DBackward0",
            _ => "NllLossBackward0",
        }
    }

    fn attributes(&self) -> Attributes {
        if self.0.label_smoothing == 0.0 { self.0.attributes() } else { Attributes::new() }
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let [x, max, log_sum] = [X, MAX, LOG_SUM].map(|role| ctx.saved(role));
        Ok(smallvec![Some(backward(g, x, [max, log_sum], &self.0)?)])
    }
}

/// Cross entropy of logits `x`, shape `(N, C, …)` or `(C,)`, and classes `target`, shape `(N, …)`
/// or `()`; or, if `target` is of floating type, probabilities in the shape of `x`.
///
/// ```
/// # use wengert::{Tensor, ops::fused::cross_entropy::{cross_entropy, Options}};
/// let x = Tensor::from_slice(&[0.0f64, 0.0, 0.0, 0.0], &[2, 2]).unwrap();
/// let t = Tensor::from_slice(&[0i64, 1], &[2]).unwrap();
/// let loss = cross_entropy(&x, &t, Options::default()).unwrap();
/// assert!((loss.item().unwrap().to_f64() - 2f64.ln()).abs() < 1e-15);
/// ```
///
/// # Errors
/// If shapes do not match, or if a target is neither a class nor ignored.
pub fn cross_entropy(x: &Tensor, target: &Tensor, options: Options) -> Result<Tensor> {
    check_input("log_softmax_lastdim_kernel_impl", x)?;
    if !(0.0..=1.0).contains(&options.label_smoothing) {
        let got = options.label_smoothing;
        bail!(Value, "", "label_smoothing must be between 0.0 and 1.0. Got: {got}");
    }
    if target.shape() == x.shape() && x.ndim() > 0 && (target.dtype().is_floating() || x.ndim() > 1)
    {
        return of_probabilities(x, target, options);
    }
    of_classes(x, Arc::new(Classes::new(x, target, options)?))
}

#[allow(unsafe_code)]
fn of_classes(x: &Tensor, classes: Arc<Classes>) -> Result<Tensor> {
    let compute = x.dtype().compute();
    let input = for_kernel("cross_entropy", x, compute)?;
    let make = || Tensor::uninitialised("cross_entropy", &classes.shape, compute);
    let (loss, max, log_sum) = (make()?, make()?, make()?);
    with_real!(compute, T => {
        let weight = classes.weights_as::<T>();
        let of = kernels::CrossEntropy {
            targets: &classes.targets,
            weight: weight.as_deref(),
            ignore_index: classes.ignore_index,
            label_smoothing: classes.label_smoothing,
        };
        let [x, loss, max, log_sum] = [&input, &loss, &max, &log_sum].map(|t| t.data_ptr().cast::<T>());
        // SAFETY: `input` is row-major of type `T` with the elements of `rows`; the others are new
        // and have an element for each row.
        unsafe { kernels::cross_entropy(x, of, loss, (max, log_sum), classes.rows)? }
    });
    let y = {
        let _off = ValuesOnly::new();
        let y = match classes.reduction {
            Reduction::None => loss,
            _ => {
                let total = reduce::sum(&loss, None, false, None)?;
                if classes.scale == 1.0 {
                    total
                } else {
                    mul(&total, &Tensor::wrapped(Scalar::Float(classes.scale))?)?
                }
            }
        };
        for_user("cross_entropy", y, x.dtype())?
    };
    if record::recording(&[x]) {
        let saves = [(X, x), (MAX, &max), (LOG_SUM, &log_sum)];
        record::record(&y, &[x], &saves, Box::new(CrossEntropy(classes)))?;
    }
    Ok(y)
}

struct CrossEntropyBackward(Arc<Classes>);

impl Op for CrossEntropyBackward {
    fn name(&self) -> &'static str {
        "NllLossBackwardBackward0"
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(h) = &grads[0] else { return Ok(Gradients::new()) };
        let (classes, x) = (&self.0, ctx.saved(X));
        let dim = class_dim(x);
        let (q, total) = classes.distribution(x)?;
        let p = softmax(x, dim as i64, Some(q.dtype()))?;
        let mut out: Gradients = smallvec![None, None];
        if ctx.needs(0) {
            let slope = h * (&p * &total - &q);
            out[0] = Some(if classes.reduction == Reduction::None {
                let rows = reduce::sum(&slope, Some(&[dim as i64]), false, None)?;
                view::reshape_to(&rows, &classes.shape)?
            } else {
                reduce::sum(&slope, None, false, None)? * classes.scale
            });
        }
        if ctx.needs(1) {
            let factors = classes.row_factors(ctx.saved(G), x)?;
            out[1] = Some(softmax_backward(&(h * factors * total), &p, dim)?);
        }
        Ok(out)
    }
}

/// The gradient of the logits; differentiable in `g` and `x`.
#[allow(unsafe_code)]
fn backward(g: &Tensor, x: &Tensor, stats: [&Tensor; 2], classes: &Arc<Classes>) -> Result<Tensor> {
    if g.is_batched() {
        // Linear in the gradient of each row's loss: times those for gradients of 1.
        let ones = Tensor::full(&classes.shape, 1.0, g.dtype())?;
        let unit = backward(&ones, x, stats, &classes.unreduced())?;
        return mul(&classes.row_factors(g, x)?, &unit);
    }
    let compute = x.dtype().compute();
    let input = for_kernel("cross_entropy", x, compute)?;
    let rows = {
        let _off = ValuesOnly::new();
        let factors = classes.row_factors(g, x)?;
        let mut shape: Dims = SmallVec::from_slice(x.shape());
        shape[class_dim(x)] = 1;
        for_kernel("cross_entropy", &view::expand_to(&factors, &shape)?, compute)?
    };
    let out = Tensor::uninitialised("cross_entropy", x.shape(), compute)?;
    with_real!(compute, T => {
        let weight = classes.weights_as::<T>();
        let of = kernels::CrossEntropy {
            targets: &classes.targets,
            weight: weight.as_deref(),
            ignore_index: classes.ignore_index,
            label_smoothing: classes.label_smoothing,
        };
        let [g, x, max, log_sum] =
            [&rows, &input, stats[0], stats[1]].map(|t| t.data_ptr().cast::<T>().cast_const());
        let to = out.data_ptr().cast::<T>();
        // SAFETY: as in the forward direction; `g` has an element for each row, `out` is new.
        unsafe { kernels::cross_entropy_backward(g, x, of, (max, log_sum), to, classes.rows)? }
    });
    if record::recording(&[g, x]) {
        let rule = CrossEntropyBackward(classes.clone());
        record::record(&out, &[g, x], &[(G, g), (X, x)], Box::new(rule))?;
    }
    Ok(out)
}

/// The definition of [`cross_entropy`] for classes.
pub fn composed(x: &Tensor, target: &Tensor, options: Options) -> Result<Tensor> {
    let classes = Classes::new(x, target, options)?;
    let (q, _) = classes.distribution(x)?;
    let dim = class_dim(x) as i64;
    let losses = unary::neg(&reduce::sum(
        &mul(&log_softmax(x, dim, None)?, &q)?,
        Some(&[dim]),
        false,
        None,
    )?)?;
    if options.reduction == Reduction::None {
        return view::reshape_to(&losses, &classes.shape);
    }
    mul(&reduce::sum(&losses, None, false, None)?, &Tensor::wrapped(Scalar::Float(classes.scale))?)
}

/// Cross entropy with a distribution for each row; differentiable in it, too.
fn of_probabilities(x: &Tensor, target: &Tensor, options: Options) -> Result<Tensor> {
    if !target.dtype().is_floating() {
        let got = target.dtype().scalar_type_name();
        bail!(
            DType,
            "",
            "Expected floating point type for target with class probabilities, got {got}"
        );
    }
    if options.ignore_index >= 0 {
        bail!(Value, "", "ignore_index is not supported for floating point target");
    }
    let dim = class_dim(x);
    let n = x.shape()[dim];
    let number = |s: f64| Tensor::wrapped(Scalar::Float(s));
    let mut q = target.clone();
    if options.label_smoothing != 0.0 {
        let keep = mul(&q, &number(1.0 - options.label_smoothing)?)?;
        q = add(&keep, &number(options.label_smoothing / n as f64)?)?;
    }
    let mut terms = mul(&log_softmax(x, dim as i64, None)?, &q)?;
    if let Some(weight) = options.weight {
        let mut shape: Dims = SmallVec::from_elem(1, x.ndim());
        shape[dim] = n;
        terms = mul(&terms, &view::reshape_to(check_weight(x, weight, n)?, &shape)?)?;
    }
    if options.reduction == Reduction::None {
        return unary::neg(&reduce::sum(&terms, Some(&[dim as i64]), false, None)?);
    }
    let loss = unary::neg(&reduce::sum(&terms, None, false, None)?)?;
    if options.reduction == Reduction::Sum {
        return Ok(loss);
    }
    super::super::div(&loss, &number(x.numel() as f64 / n as f64)?)
}

/// `-w_t x_t` of each row, or the sum or mean of that: linear in `x`.
struct Pick(Arc<Classes>);

impl Op for Pick {
    fn name(&self) -> &'static str {
        if self.0.shape.len() > 1 { "NllLoss2DBackward0" } else { "NllLossBackward0" }
    }

    fn attributes(&self) -> Attributes {
        let mut list = vec![("self", Attribute::Saved(X))];
        list.extend(self.0.attributes());
        list
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        Ok(smallvec![Some(place(g, ctx.saved(X), &self.0)?)])
    }
}

/// Negative log-likelihood of log-probabilities `x`, shape `(N, C, …)` or `(C,)`, and classes.
///
/// # Errors
/// As for [`cross_entropy`].
pub fn nll_loss(x: &Tensor, target: &Tensor, options: Options) -> Result<Tensor> {
    check_input("nll_loss_out_frame", x)?;
    pick(x, Arc::new(Classes::new(x, target, options)?))
}

#[allow(unsafe_code)]
fn pick(x: &Tensor, classes: Arc<Classes>) -> Result<Tensor> {
    let input = for_kernel("nll_loss", x, x.dtype().compute())?;
    let mut losses = vec![0.0; classes.targets.len()];
    with_real!(input.dtype(), T => {
        let data = input.data_ptr().cast::<T>();
        for (row, class) in classes.counted() {
            // SAFETY: `input` is row-major of type `T`, and rows and classes were checked against
            // its shape.
            let value = unsafe { data.add(classes.at(row, class)).read() };
            losses[row] = -classes.weight_of(class) * value.to_scalar().to_f64();
        }
    });
    let losses = Tensor::from_slice(&losses, &classes.shape)?;
    let y = reduce_to(&losses, classes.reduction, classes.scale)?;
    let y = for_user("nll_loss", y, x.dtype())?;
    if record::recording(&[x]) {
        record::record(&y, &[x], &[(X, x)], Box::new(Pick(classes)))?;
    }
    Ok(y)
}

/// The adjoint of [`Pick`].
struct Place(Arc<Classes>);

impl Op for Place {
    fn name(&self) -> &'static str {
        "NllLossBackwardBackward0"
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(h) = &grads[0] else { return Ok(Gradients::new()) };
        Ok(smallvec![Some(pick(h, self.0.clone())?)])
    }
}

#[allow(unsafe_code)]
fn place(g: &Tensor, x: &Tensor, classes: &Arc<Classes>) -> Result<Tensor> {
    if g.is_batched() {
        // As in `backward`.
        let ones = Tensor::full(&classes.shape, 1.0, g.dtype())?;
        return mul(&classes.row_factors(g, x)?, &place(&ones, x, &classes.unreduced())?);
    }
    let given = g.to_vec::<f64>()?;
    let out = Tensor::zeros(x.shape(), x.dtype().compute())?;
    with_real!(out.dtype(), T => {
        let data = out.data_ptr().cast::<T>();
        for (row, class) in classes.counted() {
            let g = if classes.reduction == Reduction::None { given[row] } else { given[0] };
            let value = -classes.weight_of(class) * g * classes.scale;
            // SAFETY: as in `pick`; `out` is new.
            unsafe { data.add(classes.at(row, class)).write(value as T) };
        }
    });
    let out = for_user("nll_loss", out, x.dtype())?;
    if record::recording(&[g]) {
        record::record(&out, &[g], &[], Box::new(Place(classes.clone())))?;
    }
    Ok(out)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "nn.functional.cross_entropy",
        aliases: &[],
        signatures: &["(input, target, weight: Tensor? = None, size_average: bool? = None, \
                       ignore_index: int = -100, reduce: bool? = None, reduction: str = 'mean', \
                       label_smoothing: float = 0.0)"],
        doc: &[
            " Cross entropy of logits and classes or class probabilities.",
            "",
            " `input` has shape `(N, C, …)` or `(C,)`; `target` holds classes in shape `(N, …)` or",
            " `()`, or probabilities in the shape of `input`. A mean over classes is weighted.",
        ],
        tags: FUNCTION,
        batch: Batching::Own(compose::cross_entropy),
        call: Call::Make(|c| {
            let options = Options { label_smoothing: c.float(7), ..options(c)? };
            Ok(cross_entropy(c.tensor(0), c.tensor(1), options)?.into())
        }),
    },
    Row {
        name: "nn.functional.nll_loss",
        aliases: &[],
        signatures: &["(input, target, weight: Tensor? = None, size_average: bool? = None, \
                       ignore_index: int = -100, reduce: bool? = None, reduction: str = 'mean')"],
        doc: &[
            " Negative log-likelihood of log-probabilities and classes.",
            "",
            " `input` has shape `(N, C, …)` or `(C,)`, `target` `(N, …)` or `()`.",
        ],
        tags: FUNCTION,
        batch: Batching::Own(compose::cross_entropy),
        call: Call::Make(|c| Ok(nll_loss(c.tensor(0), c.tensor(1), options(c)?)?.into())),
    },
];

/// What both rows take in the same places.
fn options(c: &Args) -> Result<Options<'_>> {
    Ok(Options {
        weight: c.opt_tensor(2),
        ignore_index: c.int(4),
        reduction: Reduction::of(c, [3, 5, 6])?,
        label_smoothing: 0.0,
    })
}
