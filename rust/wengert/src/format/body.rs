//! The bracketed text of a tensor: `[[1., 2.], [3., 4.]]`, over as many lines as it needs.
//!
//! Three steps. *Read* the elements that will be shown, the only ones that are touched: a
//! tensor of a billion elements prints as fast as its edges. *Write* each of them once, in the
//! one style that suits them all ([`Style`]), and note the widest. *Lay out* the texts, padded to
//! that width.
//!
//! Both walks count positions in an [`Odometer`] instead of recursing over dimensions. Between
//! two rows it says which dimension moved, and that alone decides how many brackets close, how
//! many blank lines follow and how many brackets open again.

use super::Source;
use super::number::{push, push_fixed, push_scientific};
use super::options::Options;
use crate::dtype::Scalar;

/// The bracketed text of a tensor whose first character stands in column `indent`.
///
/// Empty tensors of any shape give `[]`, 0-d tensors their number alone.
pub fn tensor_body(source: &dyn Source, options: &Options, indent: usize) -> String {
    let shape = source.shape();
    if shape.contains(&0) {
        return "[]".into();
    }
    let elements = shape.iter().fold(1usize, |n, &size| n.saturating_mul(size));
    let summarize = elements as f64 > options.threshold;
    if summarize && options.edgeitems == 0 && !shape.is_empty() {
        return "[...]".into();
    }
    let axes: Vec<Axis> = shape
        .iter()
        .map(|&size| match options.edgeitems.checked_mul(2) {
            Some(both) if summarize && size > both => Axis { size, edge: Some(both / 2) },
            _ => Axis { size, edge: None },
        })
        .collect();
    let cells = Cells::write(&read_shown(source, &axes), source.dtype().is_floating(), options);
    match axes.split_last() {
        Some((row, outer)) => lay_out(&cells, outer, row, options.linewidth, indent),
        None => cells.padded(0),
    }
}

/// What is shown of one dimension: everything, or `edge` positions at either end.
struct Axis {
    size: usize,
    edge: Option<usize>,
}

impl Axis {
    /// How many positions are shown.
    fn shown(&self) -> usize {
        self.edge.map_or(self.size, |edge| 2 * edge)
    }

    /// The index that is shown at a position.
    fn index(&self, position: usize) -> usize {
        match self.edge {
            Some(edge) if position >= edge => self.size - 2 * edge + position,
            _ => position,
        }
    }

    /// Whether an ellipsis stands before a position.
    fn gap_before(&self, position: usize) -> bool {
        self.edge == Some(position)
    }
}

/// Counts through the shown positions of some dimensions, the last one fastest.
struct Odometer<'a> {
    axes: &'a [Axis],
    positions: Vec<usize>,
}

impl<'a> Odometer<'a> {
    fn new(axes: &'a [Axis]) -> Self {
        Odometer { axes, positions: vec![0; axes.len()] }
    }

    /// Moves on; gives the dimension that moved, those after it being back at 0, or `None`
    /// after the last combination.
    fn advance(&mut self) -> Option<usize> {
        for (d, axis) in self.axes.iter().enumerate().rev() {
            self.positions[d] += 1;
            if self.positions[d] < axis.shown() {
                return Some(d);
            }
            self.positions[d] = 0;
        }
        None
    }
}

/// The elements that will be shown, in row-major order.
fn read_shown(source: &dyn Source, axes: &[Axis]) -> Vec<Scalar> {
    let mut odometer = Odometer::new(axes);
    let mut index = vec![0; axes.len()];
    let mut values = vec![source.at(&index)];
    while let Some(moved) = odometer.advance() {
        for d in moved..axes.len() {
            index[d] = axes[d].index(odometer.positions[d]);
        }
        values.push(source.at(&index));
    }
    values
}

/// The one way in which all elements of a tensor are written.
#[derive(Clone, Copy)]
enum Style {
    /// Integers and truth values.
    Exact,
    /// Floats that are all whole: `3.`
    Whole,
    /// `3.1416`
    Fixed { precision: u16 },
    /// `3.1416e+00`
    Scientific { precision: u16 },
}

impl Style {
    /// The style for some floats.
    ///
    /// Zeros and non-finite values have no say; without any other value the style is whole,
    /// even if `sci_mode` asks otherwise. The limits are PyTorch's, and compared in float64:
    /// `1e-4` as a float32 is slightly less than the limit and so turns to scientific notation.
    fn of_floats(values: &[Scalar], options: &Options) -> Style {
        let (mut smallest, mut largest, mut whole) = (f64::INFINITY, 0.0f64, true);
        for x in values.iter().map(|v| v.to_f64()).filter(|&x| counts(x)) {
            smallest = smallest.min(x.abs());
            largest = largest.max(x.abs());
            whole &= x == x.ceil();
        }
        if largest == 0.0 {
            return Style::Whole;
        }
        let far_apart = largest / smallest > 1000.0 || largest > 1e8 || smallest < 1e-4;
        let precision = options.precision;
        match options.sci_mode.unwrap_or(far_apart) {
            true => Style::Scientific { precision },
            false if whole => Style::Whole,
            false => Style::Fixed { precision },
        }
    }

    /// Appends one element.
    fn push(self, out: &mut String, value: Scalar) {
        match self {
            Style::Exact => push(out, format_args!("{value}")),
            Style::Fixed { precision } => push_fixed(out, value.to_f64(), precision),
            Style::Scientific { precision } => push_scientific(out, value.to_f64(), precision),
            Style::Whole => {
                push_fixed(out, value.to_f64(), 0);
                if value.to_f64().is_finite() {
                    out.push('.');
                }
            }
        }
    }
}

/// Whether a float has a say in style and width.
fn counts(x: f64) -> bool {
    x.is_finite() && x != 0.0
}

/// The texts of the shown elements, back to back, and the width they are padded to.
///
/// A text may be wider: zeros, infinities and NaNs do not count, as in PyTorch.
struct Cells {
    text: String,
    ends: Vec<usize>,
    width: usize,
}

impl Cells {
    fn write(values: &[Scalar], floating: bool, options: &Options) -> Cells {
        let style = if floating { Style::of_floats(values, options) } else { Style::Exact };
        let mut cells =
            Cells { text: String::new(), ends: Vec::with_capacity(values.len()), width: 1 };
        for &value in values {
            let start = cells.text.len();
            style.push(&mut cells.text, value);
            cells.ends.push(cells.text.len());
            if !floating || counts(value.to_f64()) {
                cells.width = cells.width.max(cells.text.len() - start);
            }
        }
        cells
    }

    fn get(&self, cell: usize) -> &str {
        let start = if cell == 0 { 0 } else { self.ends[cell - 1] };
        &self.text[start..self.ends[cell]]
    }

    fn padded(&self, cell: usize) -> String {
        format!("{:>width$}", self.get(cell), width = self.width)
    }
}

/// Joins the cells with brackets, commas and line breaks.
fn lay_out(cells: &Cells, outer: &[Axis], row: &Axis, linewidth: usize, indent: usize) -> String {
    let mut out = "[".repeat(outer.len());
    let mut rows = Odometer::new(outer);
    let mut first_cell = 0;
    loop {
        push_row(&mut out, cells, first_cell, row, linewidth, indent + outer.len());
        first_cell += row.shown();
        let Some(moved) = rows.advance() else { break };
        let inner = outer.len() - moved;
        out.push_str(&"]".repeat(inner - 1));
        let separator = format!(",{}{}", "\n".repeat(inner), " ".repeat(indent + moved + 1));
        out.push_str(&separator);
        if outer[moved].gap_before(rows.positions[moved]) {
            out.push_str("...");
            out.push_str(&separator);
        }
        out.push_str(&"[".repeat(inner - 1));
    }
    out.push_str(&"]".repeat(outer.len()));
    out
}

/// Appends one row: `[1., 2.,  ..., 8., 9.]`, broken into lines of equally many items. The
/// ellipsis counts as an item, with a space of its own in front.
fn push_row(
    out: &mut String,
    cells: &Cells,
    first_cell: usize,
    row: &Axis,
    linewidth: usize,
    indent: usize,
) {
    let with_comma = cells.width + 2;
    let per_line = (linewidth.saturating_sub(indent) / with_comma).max(1);
    let mut items = 0;
    let mut begin_item = |out: &mut String| {
        if items > 0 && items % per_line == 0 {
            push(out, format_args!(",\n{:spaces$}", "", spaces = indent + 1));
        } else if items > 0 {
            out.push_str(", ");
        }
        items += 1;
    };
    out.push('[');
    for position in 0..row.shown() {
        if row.gap_before(position) {
            begin_item(out);
            out.push_str(" ...");
        }
        begin_item(out);
        push(
            out,
            format_args!("{:>width$}", cells.get(first_cell + position), width = cells.width),
        );
    }
    out.push(']');
}
