//! Whole numbers as vectors: rows of a table ([`embedding`]), or of the identity ([`one_hot`]).

use super::index::{is_index, out_of_range};
use super::places::{Places, Positions};
use super::select::masked_fill;
use super::tags::*;
use super::{Row, compare, create, view};
use crate::batch::{Batching, compose};
use crate::graph::{Attribute, Attributes, Context, Gradients, Op, ValuesOnly, record};
use crate::layout::Dims;
use crate::tensor::Tensor;
use crate::{DType, Result, Scalar, bail};
use smallvec::smallvec;

/// The rows of a table that integers name. The row `padding` gets no gradient.
///
/// # Errors
/// The table is no matrix, the index holds no integers or leads outside.
pub fn embedding(index: &Tensor, table: &Tensor, padding: Option<i64>) -> Result<Tensor> {
    let [rows, _] = *table.shape() else {
        bail!(Shape, "", "'weight' must be 2-D (embedding: shape {:?})", table.shape());
    };
    if !is_index(index) {
        bail!(
            DType,
            "",
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: \
             Long, Int; but got {} instead (while checking arguments for embedding)",
            index.dtype()
        );
    }
    let size = rows as i64;
    let padding = match padding {
        Some(p) if !(-size..size).contains(&p) => {
            bail!(Value, "", "Padding_idx must be within num_embeddings ({p} of {rows})")
        }
        Some(p) => Some(if p < 0 { p + size } else { p }),
        None => None,
    };
    let places = match Positions::of(index, rows, false)? {
        Ok(positions) => Places::across(table.shape(), index.shape(), vec![(0, positions)]),
        Err(outside) => return Err(out_of_range("embedding", index, &outside, rows)),
    };
    let Some(padding) = padding else { return places.take("EmbeddingBackward0", table) };
    let y = {
        let _off = ValuesOnly::new();
        places.take("EmbeddingBackward0", table)?
    };
    if record::recording(&[table]) {
        let is_padding = compare::eq(index, &Tensor::wrapped(Scalar::Int(padding))?)?;
        let is_padding = view::unsqueeze(&is_padding, -1)?;
        record::record(&y, &[table], &[], Box::new(Embedding { places, is_padding, padding }))?;
    }
    Ok(y)
}

/// The gradient of a table whose row of padding is a constant.
struct Embedding {
    places: Places,
    is_padding: Tensor,
    padding: i64,
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "EmbeddingBackward0"
    }

    fn attributes(&self) -> Attributes {
        let mut list = self.places.attributes("EmbeddingBackward0");
        list.retain(|(name, _)| *name != "padding_idx");
        list.push(("padding_idx", Attribute::int(self.padding)));
        list
    }

    fn backward(&self, _: &Context, grads: &[Option<Tensor>]) -> Result<Gradients> {
        let Some(g) = &grads[0] else { return Ok(Gradients::new()) };
        let zero = Tensor::wrapped(Scalar::Bool(false))?;
        let g = masked_fill(g, &self.is_padding, &zero)?;
        Ok(smallvec![Some(self.places.spread("EmbeddingDenseBackward0", &g)?)])
    }
}

/// Rows with a one at the position that each integer names; `classes` positions, or as many as
/// there need to be (-1).
///
/// # Errors
/// The tensor is not int64, a class is negative or too large, or there is none to count by.
pub fn one_hot(x: &Tensor, classes: i64) -> Result<Tensor> {
    if x.dtype() != DType::Int64 {
        bail!(
            DType,
            "",
            "one_hot is only applicable to index tensor of type LongTensor. (got {})",
            x.dtype()
        );
    }
    let values = x.to_vec::<i64>()?;
    let classes = match (classes, values.iter().max()) {
        (-1, None) => {
            bail!(Value, "", "Can not infer total number of classes from empty tensor.")
        }
        (-1, Some(&max)) => max.max(0).saturating_add(1),
        (0, None) => bail!(
            Value,
            "",
            "Can not infer total number of classes from empty tensor. (num_classes = 0)"
        ),
        (classes, _) => classes,
    };
    if let Some(bad) = values.iter().find(|v| **v < 0) {
        bail!(Value, "", "Class values must be non-negative. (one_hot: {bad})");
    }
    if let Some(bad) = values.iter().find(|v| **v >= classes) {
        bail!(
            Value,
            "",
            "Class values must be smaller than num_classes. (one_hot: {bad} of {classes})"
        );
    }
    let mut shape = Dims::from_slice(x.shape());
    shape.push(create::sizes("one_hot", &[classes])?[0]);
    let out = Tensor::zeros(&shape, DType::Int64)?;
    out.fill_with(|rows: &mut [i64]| {
        let length = classes.max(1) as usize;
        for (row, &class) in rows.chunks_exact_mut(length).zip(&values) {
            row[class as usize] = 1;
        }
    });
    Ok(out)
}

/// This family's rows.
pub const ROWS: &[Row] = &[
    Row::make(
        "nn.functional.embedding",
        &["(input, weight, padding_idx: int? = None)"],
        FUNCTION,
        &[" The rows of a table that integers name; the row `padding_idx` gets no gradient."],
        |c| Ok(embedding(c.tensor(0), c.tensor(1), c.opt_int(2))?.into()),
    )
    .batched(Batching::Own(compose::embedding)),
    Row::make(
        "nn.functional.one_hot",
        &["(tensor, num_classes: int = -1)"],
        FUNCTION | NONDIFF,
        &[" Rows of zeros with a one at the position that each integer names."],
        |c| Ok(one_hot(c.tensor(0), c.int(1))?.into()),
    )
    .batched(Batching::Own(compose::one_hot)),
];
