//! What becomes of the losses of the elements: their mean, their sum, or themselves.

use crate::graph::{Attribute, ValuesOnly};
use crate::ops::binary::number;
use crate::ops::{Args, mul, reduce};
use crate::tensor::Tensor;
use crate::{Result, Scalar, bail};

/// What happens to the losses of the elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reduction {
    /// They are the result.
    None,
    /// Their mean.
    Mean,
    /// Their sum.
    Sum,
}

impl Reduction {
    /// As a node shows it: PyTorch's number.
    pub(super) fn attribute(self) -> Attribute {
        Attribute::int(match self {
            Reduction::None => 0,
            Reduction::Mean => 1,
            Reduction::Sum => 2,
        })
    }

    /// From the arguments `size_average`, `reduce` and `reduction` at these positions. The first
    /// two are of PyTorch 0.3; where one is given, `reduction` does not count.
    pub(in crate::ops) fn of(
        c: &Args,
        [size_average, reduce, reduction]: [usize; 3],
    ) -> Result<Reduction> {
        let (average, reduce) = (c.opt_number(size_average), c.opt_number(reduce));
        if average.is_some() || reduce.is_some() {
            let [average, reduce] = [average, reduce].map(|x| x.is_none_or(Scalar::to_bool));
            return Ok(match (average, reduce) {
                (_, false) => Reduction::None,
                (true, _) => Reduction::Mean,
                (false, _) => Reduction::Sum,
            });
        }
        Reduction::parse(c.str(reduction))
    }

    pub(in crate::ops) fn parse(name: &str) -> Result<Reduction> {
        Ok(match name {
            "none" => Reduction::None,
            "mean" => Reduction::Mean,
            "sum" => Reduction::Sum,
            other => bail!(
                Value,
                "",
                "{other} is not a valid value for reduction (one of 'none', 'mean', 'sum')"
            ),
        })
    }
}

/// Losses, or their sum times `scale`; not recorded.
pub(super) fn reduce_to(losses: &Tensor, reduction: Reduction, scale: f64) -> Result<Tensor> {
    if reduction == Reduction::None {
        return Ok(losses.clone());
    }
    let _off = ValuesOnly::new();
    let total = reduce::sum(losses, None, false, None)?;
    if scale == 1.0 { Ok(total) } else { mul(&total, &number(scale)?) }
}

/// Losses reduced by recorded operations.
pub(in crate::ops) fn reduced(losses: &Tensor, reduction: Reduction) -> Result<Tensor> {
    match reduction {
        Reduction::None => Ok(losses.clone()),
        Reduction::Mean => reduce::mean(losses, None, false, None),
        Reduction::Sum => reduce::sum(losses, None, false, None),
    }
}
