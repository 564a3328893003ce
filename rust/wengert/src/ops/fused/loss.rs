//! Losses between two tensors, element by element.
//!
//! A [`Loss`] is a kernel and its slopes; [`Loss::reduced`] makes of it an operation with a weight
//! and a reduction inside, so that a loss is one node. The rule multiplies the gradient with the
//! factor of the reduction and the weight, and hands it to the slopes, which are differentiable.

pub use super::reduction::Reduction;
use super::reduction::reduce_to;
pub(in crate::ops) use super::reduction::reduced;
use crate::batch::{Batching, compose};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, Saves, ValuesOnly, record};
use crate::kernels::math;
use crate::ops::binary::{number, where_};
use crate::ops::compare::lt;
use crate::ops::tags::*;
use crate::ops::unary::{abs, exp, log, log1p, neg, sigmoid, sigmoid_backward};
use crate::ops::{Args, Call, Row, binary, div, mul, reduce, sub};
use crate::pointwise_rows;
use crate::tensor::Tensor;
use crate::{Result, bail};
use smallvec::{SmallVec, smallvec};

pointwise_rows! {
    /// `(x - t)²`
    squared_error(x, t) -> y: "(input, target)", Same, INTERNAL | NONDIFF => {
        float: (x - t) * (x - t),
    }

    /// `2 g (x - t)`
    squared_error_backward(g, x, t) -> y: "(grad_output, input, target)", Same, INTERNAL => {
        float: g * (x - t) * 2.0,
    } "MseLossBackwardBackward0" {
        g saves(x, t): |h| squared_error_backward(h, x, t)?,
        x saves(g): |h| h * g * 2.0,
        t saves(g): |h| h * g * -2.0,
    }

    /// `d²/2β` where `d = |x - t| < β`, else `d - β/2`.
    smooth_l1(x, t, beta) -> y: "(input, target, beta)", Same, INTERNAL | NONDIFF => {
        float: { let d = (x - t).abs(); if d < beta { 0.5 * d * d / beta } else { d - 0.5 * beta } },
    }

    /// `g (x - t) / β`, limited to `±g`.
    smooth_l1_backward(g, x, t, beta) -> y: "(grad_output, input, target, beta)", Same, INTERNAL => {
        float: {
            let d = x - t;
            if d <= -beta { -g } else if d >= beta { g } else { g * d / beta }
        },
    } "SmoothL1LossBackwardBackward0" {
        g saves(x, t, beta): |h| smooth_l1_backward(h, x, t, beta)?,
        x saves(g, x, t, beta): |h| near(&(h * g / beta), x, t, beta)?,
        t saves(g, x, t, beta): |h| near(&-(h * g / beta), x, t, beta)?,
    }

    /// `d²/2` where `d = |x - t| <= δ`, else `δ (d - δ/2)`.
    huber(x, t, delta) -> y: "(input, target, delta)", Same, INTERNAL | NONDIFF => {
        float: {
            let d = (x - t).abs();
            if d <= delta { 0.5 * d * d } else { delta * (d - 0.5 * delta) }
        },
    }

    /// `g (x - t)`, limited to `±δ g`.
    huber_backward(g, x, t, delta) -> y: "(grad_output, input, target, delta)", Same, INTERNAL => {
        float: {
            let d = x - t;
            if d <= -delta { -delta * g } else if d >= delta { delta * g } else { g * d }
        },
    } "HuberLossBackwardBackward0" {
        g saves(x, t, delta): |h| huber_backward(h, x, t, delta)?,
        x saves(g, x, t, delta): |h| near(&(h * g), x, t, delta)?,
        t saves(g, x, t, delta): |h| near(&-(h * g), x, t, delta)?,
    }

    /// `-(t ln x + (1-t) ln(1-x))` with logarithms limited to -100.
    binary_cross_entropy(x, t) -> y: "(input, target)", Same, INTERNAL | NONDIFF => {
        float: {
            let (a, b) = (math::ln(x), math::log1p(-x));
            (t - 1.0) * (if b < -100.0 { -100.0 } else { b })
                - t * (if a < -100.0 { -100.0 } else { a })
        },
    }

    /// `g (x - t) / (x (1 - x))`, with the denominator kept above 10⁻¹².
    binary_cross_entropy_backward(g, x, t) -> y:
        "(grad_output, input, target)", Same, INTERNAL =>
    {
        float: {
            let spread = (1.0 - x) * x;
            g * (x - t) / (if spread < 1e-12 { 1e-12 } else { spread })
        },
    } "BinaryCrossEntropyBackwardBackward0" {
        g saves(x, t): |h| binary_cross_entropy_backward(h, x, t)?,
        x saves(g, x, t): |h| {
            let spread = binary::clamp_min(&(x * (1.0 - x)), &number(1e-12)?)?;
            h * g * (1.0 - (x - t) * (1.0 - x * 2.0) / &spread) / spread
        },
        t saves(g, x): |h| -(h * g / binary::clamp_min(&(x * (1.0 - x)), &number(1e-12)?)?),
    }

    /// Whether `x` is no probability.
    improbable(x) -> y as bool: "(input)", Same, INTERNAL | NONDIFF => {
        float: !(x >= 0.0 && x <= 1.0),
    }

    /// [`binary_cross_entropy()`] of `σ(x)`, without overflow: `(1 - t) x + ln(1 + e⁻ˣ)`.
    bce_with_logits(x, t) -> y: "(input, target)", Same, INTERNAL | NONDIFF => {
        float: (if x > 0.0 { x } else { 0.0 }) - x * t + math::log1p(math::exp(-x.abs())),
    }

    /// `g (σ(x) - t)`
    bce_with_logits_backward(g, x, t) -> y: "(grad_output, input, target)", Same, INTERNAL => {
        float: g * (math::sigmoid(x) - t),
    } "BinaryCrossEntropyWithLogitsBackwardBackward0" {
        g saves(x, t): |h| bce_with_logits_backward(h, x, t)?,
        x saves(g, x): |h| sigmoid_backward(&(h * g), &sigmoid(x)?)?,
        t saves(g): |h| -(h * g),
    }

    /// [`bce_with_logits()`] where `t` counts `p`-fold: `(1 - t) x + (1 + (p-1) t) ln(1 + e⁻ˣ)`.
    bce_with_positive_weight(x, t, p) -> y:
        "(input, target, pos_weight)", Same, INTERNAL | NONDIFF =>
    {
        float: {
            let log = (if x < 0.0 { -x } else { 0.0 }) + math::log1p(math::exp(-x.abs()));
            (1.0 - t) * x + ((p - 1.0) * t + 1.0) * log
        },
    }
}

/// `g` where `|x - t|` is below the limit, else 0.
fn near(g: &Tensor, x: &Tensor, t: &Tensor, limit: &Tensor) -> Result<Tensor> {
    where_(&lt(&abs(&(x - t))?, limit)?, g, &number(0.0)?)
}

/// `ln(1 + e⁻ˣ)`
fn softplus_of_negative(x: &Tensor) -> Result<Tensor> {
    neg(&crate::ops::activation::logsigmoid(x)?)
}

/// A loss of an element of the input, one of the target, and at most one more operand.
pub struct Loss {
    /// PyTorch's name of the node.
    node: &'static str,
    /// What else PyTorch's node keeps if it is given.
    options: &'static [&'static str],
    /// The losses; not recorded.
    value: fn(&[&Tensor]) -> Result<Tensor>,
    /// `g` times the slope of the loss in operand `k`.
    slope: fn(k: usize, g: &Tensor, operands: &[&Tensor]) -> Result<Tensor>,
}

static MSE: Loss = Loss {
    node: "MseLossBackward0",
    options: &[],
    value: |x| squared_error(x[0], x[1]),
    slope: |k, g, x| {
        let slope = squared_error_backward(g, x[0], x[1])?;
        if k == 0 { Ok(slope) } else { neg(&slope) }
    },
};

static SMOOTH_L1: Loss = Loss {
    node: "SmoothL1LossBackward0",
    options: &[],
    value: |x| smooth_l1(x[0], x[1], x[2]),
    slope: |k, g, x| {
        let slope = smooth_l1_backward(g, x[0], x[1], x[2])?;
        if k == 0 { Ok(slope) } else { neg(&slope) }
    },
};

static HUBER: Loss = Loss {
    node: "HuberLossBackward0",
    options: &[],
    value: |x| huber(x[0], x[1], x[2]),
    slope: |k, g, x| {
        let slope = huber_backward(g, x[0], x[1], x[2])?;
        if k == 0 { Ok(slope) } else { neg(&slope) }
    },
};

static BCE: Loss = Loss {
    node: "BinaryCrossEntropyBackward0",
    options: &["weight"],
    value: |x| binary_cross_entropy(x[0], x[1]),
    slope: |k, g, x| {
        if k == 0 {
            return binary_cross_entropy_backward(g, x[0], x[1]);
        }
        let limit = number(-100.0)?;
        let [a, b] = [log(x[0])?, log1p(&-x[0])?].map(|l| binary::clamp_min(&l, &limit));
        Ok(g * (b? - a?))
    },
};

static BCE_WITH_LOGITS: Loss = Loss {
    node: "BinaryCrossEntropyWithLogitsBackward0",
    options: &["weight", "pos_weight"],
    value: |x| match x {
        [x, t] => bce_with_logits(x, t),
        _ => bce_with_positive_weight(x[0], x[1], x[2]),
    },
    slope: |k, g, x| match *x {
        [x, t] if k == 0 => bce_with_logits_backward(g, x, t),
        [x, _] => Ok(-(g * x)),
        _ => {
            let (x, t, p) = (x[0], x[1], x[2]);
            Ok(match k {
                0 => g * ((1.0 - t) - ((p - 1.0) * t + 1.0) * sigmoid(&-x)?),
                1 => g * ((p - 1.0) * softplus_of_negative(x)? - x),
                _ => g * (t * softplus_of_negative(x)?),
            })
        }
    },
};

struct Rule {
    loss: &'static Loss,
    operands: usize,
    weighted: bool,
    scale: f64,
    reduction: Reduction,
}

impl Op for Rule {
    fn name(&self) -> &'static str {
        self.loss.node
    }

    fn attributes(&self) -> Attributes {
        let names: &[&'static str] = match self.loss.node {
            "HuberLossBackward0" => &["self", "target", "delta"],
            "SmoothL1LossBackward0" => &["self", "target", "beta"],
            _ => &["self", "target", "pos_weight"],
        };
        let named = names.iter().take(self.operands).enumerate();
        let mut list: Attributes =
            named.map(|(k, name)| (*name, Attribute::SavedNumber(k as u8))).collect();
        if self.weighted {
            list.push(("weight", Attribute::Saved(self.operands as u8)));
        }
        for &name in self.loss.options {
            if list.iter().all(|(known, _)| *known != name) {
                list.push((name, Attribute::none()));
            }
        }
        list.push(("reduction", self.reduction.attribute()));
        list
    }

    fn hides(&self, input: usize) -> bool {
        input == 2
    }

    /// Unless it is reduced, which the shapes tell.
    fn is_pointwise(&self) -> bool {
        true
    }

    fn backward(&self, ctx: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let operands: SmallVec<[&Tensor; 3]> =
            (0..self.operands).map(|k| ctx.saved(k as u8)).collect();
        let g = if self.scale == 1.0 { g.clone() } else { g * self.scale };
        let weighted = if self.weighted { &g * ctx.saved(self.operands as u8) } else { g.clone() };
        let mut out: Gradients = smallvec![None; self.operands];
        for (k, slot) in out.iter_mut().enumerate() {
            if ctx.needs(k) {
                *slot = Some((self.loss.slope)(k, &weighted, &operands)?);
            }
        }
        if self.weighted {
            out.push(if ctx.needs(self.operands) {
                Some(g * self.loss.reduced(&operands, None, Reduction::None)?)
            } else {
                None
            });
        }
        Ok(out)
    }
}

impl Loss {
    /// The loss of `operands` (input, target and whatever else there is), times `weight`, reduced.
    fn reduced(
        &'static self,
        operands: &[&Tensor],
        weight: Option<&Tensor>,
        reduction: Reduction,
    ) -> Result<Tensor> {
        let (y, scale) = {
            let _off = ValuesOnly::new();
            let mut losses = (self.value)(operands)?;
            if let Some(weight) = weight {
                losses = mul(&losses, weight)?;
            }
            let scale =
                if reduction == Reduction::Mean { 1.0 / losses.numel() as f64 } else { 1.0 };
            (reduce_to(&losses, reduction, scale)?, scale)
        };
        let mut inputs: SmallVec<[&Tensor; 4]> = SmallVec::from_slice(operands);
        inputs.extend(weight);
        if record::recording(&inputs) {
            let saves: Saves = inputs.iter().enumerate().map(|(i, t)| (i as u8, *t)).collect();
            let (operands, weighted) = (operands.len(), weight.is_some());
            let rule = Rule { loss: self, operands, weighted, scale, reduction };
            record::record(&y, &inputs, &saves, Box::new(rule))?;
        }
        Ok(y)
    }
}

/// A weighted mean divides by the weights: PyTorch's rule for `mse_loss`, `l1_loss`, `huber_loss`.
fn weighted(losses: &Tensor, weight: &Tensor, reduction: Reduction) -> Result<Tensor> {
    if weight.shape() != losses.shape() {
        bail!(
            Value,
            "",
            "Weights and input must have the same size. (got {:?} and {:?})",
            weight.shape(),
            losses.shape()
        );
    }
    let product = mul(losses, weight)?;
    match reduction {
        Reduction::Mean => {
            let [sum, total] = [&product, weight].map(|t| reduce::sum(t, None, false, None));
            div(&sum?, &total?)
        }
        other => reduced(&product, other),
    }
}

/// `(x - t)²`, reduced.
pub fn mse_loss(x: &Tensor, t: &Tensor, reduction: Reduction) -> Result<Tensor> {
    MSE.reduced(&[x, t], None, reduction)
}

/// `|x - t|`, reduced.
pub fn l1_loss(x: &Tensor, t: &Tensor, reduction: Reduction) -> Result<Tensor> {
    reduced(&abs(&sub(x, t)?)?, reduction)
}

/// Quadratic up to a distance of `beta`, linear beyond (Girshick, 2015), reduced.
pub fn smooth_l1_loss(x: &Tensor, t: &Tensor, beta: f64, reduction: Reduction) -> Result<Tensor> {
    if beta < 0.0 {
        bail!(Value, "", "smooth_l1_loss does not support negative values for beta. (got {beta})");
    }
    if beta == 0.0 {
        return l1_loss(x, t, reduction);
    }
    SMOOTH_L1.reduced(&[x, t, &number(beta)?], None, reduction)
}

/// Quadratic up to a distance of `delta`, linear beyond (Huber, 1964), reduced.
pub fn huber_loss(x: &Tensor, t: &Tensor, delta: f64, reduction: Reduction) -> Result<Tensor> {
    if delta <= 0.0 {
        bail!(
            Value,
            "",
            "huber_loss does not support non-positive values for delta. (got {delta})"
        );
    }
    HUBER.reduced(&[x, t, &number(delta)?], None, reduction)
}

/// Cross entropy of probabilities `x` of truth and targets `t`, reduced.
///
/// # Errors
/// If shapes or types differ, or if an element of `x` is not between 0 and 1.
pub fn bce(
    x: &Tensor,
    t: &Tensor,
    weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    if x.shape() != t.shape() {
        bail!(
            Value,
            "",
            "Using a target size (torch.Size({:?})) that is different to the input size \
             (torch.Size({:?})) is deprecated. Please ensure they have the same size.",
            t.shape(),
            x.shape()
        );
    }
    if x.dtype() != t.dtype() {
        let [x, t] = [x, t].map(|t| t.dtype().scalar_type_name());
        bail!(DType, "", "Found dtype {t} but expected {x} (the target of binary_cross_entropy)");
    }
    if reduce::any(&improbable(x)?)? {
        bail!(
            Value,
            "",
            "all elements of input should be between 0 and 1 (for logits, use \
             binary_cross_entropy_with_logits)"
        );
    }
    BCE.reduced(&[x, t], weight, reduction)
}

/// Cross entropy of logits `x` of truth and targets `t`, reduced; `pos_weight` multiplies the part
/// of the targets that is true.
///
/// # Errors
/// If shapes differ.
pub fn bce_logits(
    x: &Tensor,
    t: &Tensor,
    weight: Option<&Tensor>,
    pos_weight: Option<&Tensor>,
    reduction: Reduction,
) -> Result<Tensor> {
    if x.shape() != t.shape() {
        bail!(
            Value,
            "",
            "Target size (torch.Size({:?})) must be the same as input size (torch.Size({:?}))",
            t.shape(),
            x.shape()
        );
    }
    match pos_weight {
        Some(p) => BCE_WITH_LOGITS.reduced(&[x, t, p], weight, reduction),
        None => BCE_WITH_LOGITS.reduced(&[x, t], weight, reduction),
    }
}

/// The definition of [`bce_logits`] without weights, for moderate logits.
pub fn bce_logits_composed(x: &Tensor, t: &Tensor, reduction: Reduction) -> Result<Tensor> {
    let p = sigmoid(x)?;
    let one = number(1.0)?;
    let truth = mul(t, &log(&p)?)?;
    let rest = mul(&sub(&one, t)?, &log(&sub(&one, &p)?)?)?;
    reduced(&neg(&super::super::add(&truth, &rest)?)?, reduction)
}

/// Kullback-Leibler divergence `t (ln t - x)` of log-probabilities `x` from `t`, which with
/// `log_target` is a logarithm, too.
fn kl_terms(x: &Tensor, t: &Tensor, log_target: bool) -> Result<Tensor> {
    if log_target { mul(&exp(t)?, &sub(t, x)?) } else { sub(&binary::xlogy(t, t)?, &mul(t, x)?) }
}

/// [`kl_terms`], reduced; `batchmean` divides their sum by the size of the first axis.
fn kl_div(x: &Tensor, t: &Tensor, log_target: bool, reduction: &str) -> Result<Tensor> {
    let terms = kl_terms(x, t, log_target)?;
    if reduction != "batchmean" {
        return reduced(&terms, Reduction::parse(reduction)?);
    }
    let total = reduce::sum(&terms, None, false, None)?;
    match x.shape().first() {
        Some(&batch) => div(&total, &number(batch as f64)?),
        None => Ok(total),
    }
}

macro_rules! row {
    ($name:literal, $sig:literal, $call:expr, $($doc:literal),+) => {
        Row {
            name: concat!("nn.functional.", $name),
            aliases: &[],
            signatures: &[$sig],
            doc: &[$($doc),+],
            tags: FUNCTION,
            batch: Batching::Own(compose::loss),
            call: Call::Make($call),
        }
    };
}

/// What all but one of the rows begin with.
fn pair(c: &Args) -> (&Tensor, &Tensor) {
    (c.tensor(0), c.tensor(1))
}

/// The functions for users.
pub const FUNCTIONS: &[Row] = &[
    row!(
        "mse_loss",
        "(input, target, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean', weight: Tensor? = None)",
        |c| {
            let ((x, t), reduction) = (pair(c), Reduction::of(c, [2, 3, 4])?);
            Ok(match c.opt_tensor(5) {
                Some(w) => weighted(&mse_loss(x, t, Reduction::None)?, w, reduction)?,
                None => mse_loss(x, t, reduction)?,
            }
            .into())
        },
        " `(input - target)²`, averaged, summed or as it is."
    ),
    row!(
        "l1_loss",
        "(input, target, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean', weight: Tensor? = None)",
        |c| {
            let ((x, t), reduction) = (pair(c), Reduction::of(c, [2, 3, 4])?);
            Ok(match c.opt_tensor(5) {
                Some(w) => weighted(&l1_loss(x, t, Reduction::None)?, w, reduction)?,
                None => l1_loss(x, t, reduction)?,
            }
            .into())
        },
        " `|input - target|`, averaged, summed or as it is."
    ),
    row!(
        "smooth_l1_loss",
        "(input, target, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean', beta: float = 1.0)",
        |c| {
            let ((x, t), reduction) = (pair(c), Reduction::of(c, [2, 3, 4])?);
            Ok(smooth_l1_loss(x, t, c.float(5), reduction)?.into())
        },
        " `d²/2β` where `d = |input - target| < β`, else `d - β/2`; averaged, summed or as it is."
    ),
    row!(
        "huber_loss",
        "(input, target, reduction: str = 'mean', delta: float = 1.0, weight: Tensor? = None)",
        |c| {
            let ((x, t), reduction) = (pair(c), Reduction::parse(c.str(2))?);
            Ok(match c.opt_tensor(4) {
                Some(w) => weighted(&huber_loss(x, t, c.float(3), Reduction::None)?, w, reduction)?,
                None => huber_loss(x, t, c.float(3), reduction)?,
            }
            .into())
        },
        " `d²/2` where `d = |input - target| <= δ`, else `δ (d - δ/2)`; averaged, summed or as it is."
    ),
    row!(
        "binary_cross_entropy",
        "(input, target, weight: Tensor? = None, size_average: bool? = None, \
         reduce: bool? = None, reduction: str = 'mean')",
        |c| {
            let ((x, t), reduction) = (pair(c), Reduction::of(c, [3, 4, 5])?);
            Ok(bce(x, t, c.opt_tensor(2), reduction)?.into())
        },
        " Cross entropy of probabilities and targets between 0 and 1."
    ),
    row!(
        "binary_cross_entropy_with_logits",
        "(input, target, weight: Tensor? = None, size_average: bool? = None, \
         reduce: bool? = None, reduction: str = 'mean', pos_weight: Tensor? = None)",
        |c| {
            let ((x, t), reduction) = (pair(c), Reduction::of(c, [3, 4, 5])?);
            Ok(bce_logits(x, t, c.opt_tensor(2), c.opt_tensor(6), reduction)?.into())
        },
        " Cross entropy of logits and targets between 0 and 1.",
        "",
        " `pos_weight` multiplies the part of the targets that is true."
    ),
    row!(
        "kl_div",
        "(input, target, size_average: bool? = None, reduce: bool? = None, \
         reduction: str = 'mean', log_target: bool = False)",
        |c| {
            let (x, t) = pair(c);
            let reduction = match (c.str(4), c.opt_number(2).or(c.opt_number(3))) {
                (name, None) => name,
                (_, Some(_)) => match Reduction::of(c, [2, 3, 4])? {
                    Reduction::None => "none",
                    Reduction::Mean => "mean",
                    Reduction::Sum => "sum",
                },
            };
            Ok(kl_div(x, t, c.bool(5), reduction)?.into())
        },
        " Kullback-Leibler divergence `target (ln target - input)` of log-probabilities `input`.",
        "",
        " With `reduction='batchmean'` the sum is divided by the size of the first axis."
    ),
];
