//! Which rule a row has. What is not named here runs example by example, see [`each`](super::each).

use super::{Call, Ruling, align, axes, compose, linalg};
use crate::ops::{Args, Output, Row, Value, tags};
use crate::{Result, bail};

/// How a row works on batches.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// Element by element: operands are aligned, and broadcast.
    Pointwise,
    /// The first argument decides; the others do not matter or are not tensors.
    First,
    /// Parameters that name axes of the first argument count from its first own axis.
    Axes {
        /// How many axes more than the first argument the axes are counted among.
        extra: usize,
    },
    /// As `Axes`, with every tensor spread over all levels.
    Spread {
        /// How many axes fewer than the first argument the other tensors have.
        less: usize,
    },
    /// Reduces over given axes, or over all.
    Reduce,
    /// Works on the last axes, of which there must be so many, and leaves the others alone.
    Trailing(usize),
    /// A rule of its own.
    Own(fn(&Call<'_>) -> Result<Ruling>),
    /// Each example would give a result of another shape, or control what the program does next.
    Refuse(&'static str),
    /// None.
    Each,
}

const DYNAMIC: &str = "vmap: We do not support batching operators that can output dynamic shape. \
    Attempted to vmap over aten::nonzero. The number of positions differs from example to example; \
    use torch.where(condition, a, b) instead.";
const MASKED_SELECT: &str = "vmap: Attempted to vmap over `mask` in torch.masked_select(self, mask) \
    We cannot support this because for each batch this would return a differently shaped Tensor. Use \
    torch.where(mask, self, 0) instead.";
const EQUAL: &str = "Batching rule not implemented for aten::equal. We could not generate a \
    fallback: it gives one truth value, and there would be one per example. Use (a == b).all().";
const ALLCLOSE: &str = "vmap over torch.allclose isn't supported yet: it gives one truth value, and \
    there would be one per example. Use torch.isclose(a, b).all().";

/// The rule of a row.
pub(super) fn rule(row: &Row) -> Rule {
    use Rule::*;
    if row.has(tags::POINTWISE) {
        return Pointwise;
    }
    match row.name {
        "rsub" | "where" | "clamp" | "isclose" | "copy_" | "lerp" | "addcmul" | "addcdiv"
        | "logit" | "nan_to_num" | "round" | "sub" | "div" => Pointwise,
        "float" | "double" | "half" | "bfloat16" | "long" | "int" | "short" | "char" | "byte"
        | "bool" | "to" | "type_as" | "clone" | "contiguous" | "zeros_like" | "ones_like"
        | "empty_like" | "full_like" | "detach" | "detach_copy" | "alias_copy" | "positive"
        | "zero_" => First,
        "masked_fill" => Own(compose::masked_fill),
        "fill" | "fill_" => Own(compose::fill),
        "new_zeros" | "new_ones" | "new_empty" | "new_full" => Own(axes::sized),

        "sum" | "nansum" | "mean" | "amax" | "amin" | "any" | "all" | "count_nonzero" | "var"
        | "std" | "var_mean" | "std_mean" | "norm" | "linalg.vector_norm" | "logsumexp" => Reduce,
        "prod" | "argmax" | "argmin" | "aminmax" => Own(axes::flat_reduce),
        "max" | "min" => Own(axes::extremum),
        "cumsum"
        | "cumprod"
        | "logcumsumexp"
        | "cummax"
        | "cummin"
        | "softmax"
        | "log_softmax"
        | "sort"
        | "argsort"
        | "topk"
        | "kthvalue"
        | "layer_norm"
        | "nn.functional.pad"
        | "nn.functional.normalize" => Axes { extra: 0 },
        "nn.functional.softmax" | "nn.functional.log_softmax" | "nn.functional.softmin" => {
            Own(axes::implicit_softmax)
        }

        "transpose"
        | "transpose_copy"
        | "movedim"
        | "flip"
        | "flatten"
        | "select"
        | "select_copy"
        | "narrow"
        | "narrow_copy"
        | "unbind"
        | "unbind_copy"
        | "split"
        | "split_copy"
        | "split_with_sizes"
        | "split_with_sizes_copy"
        | "chunk"
        | "diagonal"
        | "diagonal_copy"
        | "unflatten"
        | "tensor_split"
        | "unsafe_split"
        | "unsafe_chunk"
        | "unsafe_split_with_sizes"
        | "unfold"
        | "unfold_copy"
        | "slice"
        | "slice_copy" => Axes { extra: 0 },
        "adjoint" => Own(axes::adjoint),
        "ravel" => Own(axes::ravel),
        "as_strided" | "as_strided_copy" => Own(axes::as_strided),
        "unsqueeze" | "unsqueeze_copy" | "diag_embed" => Axes { extra: 1 },
        "permute" | "permute_copy" => Own(axes::permute),
        "squeeze" | "squeeze_copy" => Own(axes::squeeze),
        "t" | "t_copy" => Own(axes::t),
        "reshape" | "view" | "view_copy" => Own(axes::reshape),
        "view_as" | "expand_as" => Own(axes::like_other),
        "expand" | "broadcast_to" | "expand_copy" => Own(axes::expand),
        "tril" | "triu" => Trailing(2),
        "diag" => Own(compose::diag),
        "inverse" | "linalg.inv_ex" | "det" | "slogdet" | "linalg.slogdet" | "logdet"
        | "linalg.cholesky" | "linalg.cholesky_ex" | "cholesky" | "cholesky_inverse" | "qr"
        | "linalg.eigh" | "linalg.eigvalsh" | "linalg.svd" | "svd" | "linalg.svdvals"
        | "linalg.pinv" | "pinverse" | "matrix_power" | "linalg.matrix_rank" | "linalg.cond" => {
            Trailing(2)
        }
        "linalg.qr" => Own(linalg::qr),
        "linalg.solve" | "linalg.solve_triangular" | "cholesky_solve" => Own(linalg::solve),

        "matmul" => Own(compose::matmul),
        "mm" | "mv" | "dot" | "vdot" | "bmm" => Own(compose::exact_matmul),
        "addmm" | "addmv" | "baddbmm" => Own(compose::added_matmul),
        "outer" => Own(compose::outer),
        "inner" => Own(compose::inner),
        "nn.functional.linear" => Own(compose::linear),

        "cat" | "stack" | "hstack" | "vstack" | "row_stack" | "dstack" | "column_stack" => {
            Own(compose::join)
        }
        "gather" | "scatter" | "scatter_add" | "take_along_dim" | "slice_scatter" => {
            Spread { less: 0 }
        }
        "select_scatter" | "diagonal_scatter" => Spread { less: 1 },
        "index_select" | "index_add" | "index_copy" | "index_fill" => Own(compose::at_index),
        "index_put" | "index_put_" => Own(compose::index_put),
        "nn.functional.embedding" => Own(compose::embedding),
        "nn.functional.one_hot" => Own(compose::one_hot),
        "take" => Own(compose::take),

        "nn.functional.mse_loss"
        | "nn.functional.l1_loss"
        | "nn.functional.smooth_l1_loss"
        | "nn.functional.huber_loss"
        | "nn.functional.binary_cross_entropy"
        | "nn.functional.binary_cross_entropy_with_logits"
        | "nn.functional.kl_div" => Own(compose::loss),
        "nn.functional.cross_entropy" | "nn.functional.nll_loss" => Own(compose::cross_entropy),

        "nonzero" => Refuse(DYNAMIC),
        "masked_select" => Refuse(MASKED_SELECT),
        "equal" => Refuse(EQUAL),
        "allclose" => Refuse(ALLCLOSE),
        // Activations with parameters that are numbers.
        name if name.starts_with("nn.functional.") && is_activation(name) => First,
        _ => Each,
    }
}

fn is_activation(name: &str) -> bool {
    crate::ops::activation::FUNCTIONS.iter().any(|row| row.name == name)
}

impl Rule {
    /// Whether the in-place form may work on aligned operands.
    pub(super) fn is_pointwise(self) -> bool {
        matches!(self, Rule::Pointwise | Rule::First)
    }

    pub(super) fn apply(self, call: &Call<'_>) -> Result<Ruling> {
        match self {
            Rule::Pointwise => pointwise(call),
            Rule::First => first(call),
            Rule::Axes { extra } => axes::along(call, extra),
            Rule::Spread { less } => axes::spread(call, less),
            Rule::Reduce => axes::reduce(call),
            Rule::Trailing(n) if call.rank(0) >= n => first(call),
            Rule::Trailing(_) | Rule::Each => Ok(Ruling::Decline),
            Rule::Own(rule) => rule(call),
            Rule::Refuse(text) => bail!(Value, "", "{text}"),
        }
    }
}

impl Call<'_> {
    /// How many axes an example of a tensor argument has.
    pub(super) fn rank(&self, i: usize) -> usize {
        self.args.opt_tensor(i).map_or(0, |t| t.ndim())
    }

    /// Whether an argument differs from example to example.
    pub(super) fn is_batched(&self, i: usize) -> bool {
        self.args.opt_tensor(i).is_some_and(|t| t.is_batched())
    }

    /// Whether an argument was given at all.
    pub(super) fn has(&self, i: usize) -> bool {
        self.args.values.get(i).is_some_and(|v| !matches!(v, Value::None))
    }

    /// The row on physical arguments.
    pub(super) fn run(&self, args: &Args) -> Result<Ruling> {
        Ok(Ruling::Physical(self.row.call(args)?))
    }
}

fn pointwise(call: &Call<'_>) -> Result<Ruling> {
    if call.row.name.ends_with('_') {
        return write(call);
    }
    call.run(&align::pointwise(call.args, &call.levels)?)
}

/// Rows that write to their first argument: `copy_`, `zero_`.
fn write(call: &Call<'_>) -> Result<Ruling> {
    let name = call.row.short_name();
    let target = call.args.tensor(0);
    let place = super::place_of(target, &call.levels, name)?;
    let Some(args) = align::for_place(call.args, &place, &call.levels, target.ndim())? else {
        let most = super::tensors(call.args).max_by_key(|t| t.ndim());
        let shape = most.map_or(&[][..], |t| t.shape());
        return Err(align::shape_mismatch(name, target, shape));
    };
    call.row.call(&args)?;
    Ok(Ruling::Finished(Output::Tensor(target.clone())))
}

pub(super) fn first(call: &Call<'_>) -> Result<Ruling> {
    if call.row.name.ends_with('_') {
        return write(call);
    }
    let args = align::physicals(call.args);
    // Formats other than those of any number of axes speak of an example's axes.
    if args.values.iter().any(|v| matches!(v, Value::MemoryFormat(f) if f.is_for_images())) {
        return Ok(Ruling::Decline);
    }
    let output = call.row.call(&args)?;
    match call.args.opt_tensor(0).map(|t| super::levels_of(t, call.row.short_name())) {
        Some(levels) => Ok(Ruling::Finished(super::wrapped(output, &levels?)?)),
        None => Ok(Ruling::Decline),
    }
}
