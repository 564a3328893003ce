//! The macro that turns rows into operations.
//!
//! ```text
//! pointwise_rows! {
//!     /// Hyperbolic tangent.
//!     tanh(x) -> y: "(input)", Float, ALL_FORMS {
//!         float: math::tanh(x),
//!     } "TanhBackward0" {
//!         x saves(y): |g| tanh_backward(g, y)?,
//!     }
//! }
//! ```
//!
//! gives a function `tanh(&Tensor) -> Result<Tensor>`, a module `tanh` with the kernel and the rule,
//! and an entry of `ROWS`; `aka ["nn.functional.tanh"]` behind the tags gives it other names. The
//! gradient of an input sees what its clause `saves`, and nothing else: a rule that uses something it
//! did not save does not compile. Only what the inputs that require grad need is kept. Where
//! PyTorch's node has another name if an operand is a Python number, `number "NAME"` follows the
//! usual one; `shows("exponent", Attribute::int(2))` adds to what users see of the node what is not
//! saved.

use crate::graph::{Attribute, Attributes};

/// A gradient that a clause may give.
pub trait IntoGradient {
    /// `None` stands for zero.
    fn into_gradient(self) -> Option<crate::Tensor>;
}

impl IntoGradient for crate::Tensor {
    fn into_gradient(self) -> Option<crate::Tensor> {
        Some(self)
    }
}

impl IntoGradient for Option<crate::Tensor> {
    fn into_gradient(self) -> Option<crate::Tensor> {
        self
    }
}

/// The name and the type of a parameter of a signature, counted without the `*`.
fn parameter(signature: &'static str, index: usize) -> Option<(&'static str, &'static str)> {
    let inside = signature.trim_start_matches('(').split(')').next()?;
    let text = inside.split(',').filter(|p| p.trim() != "*").nth(index)?;
    let (name, kind) = text.split_once(':').unwrap_or((text, ""));
    Some((name.trim(), kind.split('=').next().unwrap_or_default().trim()))
}

/// Whether an operand is a number, by its type; with `given`, whether it may be one.
pub fn is_number(signature: &'static str, index: usize, given: bool) -> bool {
    let kind = parameter(signature, index).map_or("", |(_, kind)| kind.trim_end_matches('?'));
    matches!(kind, "float" | "int" | "Number") || (given && kind == "Operand")
}

/// What a row's node keeps for the gradient of each input, named after the parameters of its
/// signature. Roles are numbers of operands, and one more for the result; PyTorch calls the first
/// parameter `self`. With `numbers`, operands that were numbers are shown as such, and what only
/// their gradients would need is not there.
pub fn attributes(
    signature: &'static str,
    inputs: usize,
    saved: &[(u8, &[u8])],
    numbers: bool,
) -> Attributes {
    let mut list = Attributes::new();
    let asked = |input: &u8| !is_number(signature, *input as usize, numbers);
    // Where either operand may be the number, there is no telling.
    let unclear = !saved.iter().any(|(input, _)| asked(input));
    let clauses = saved.iter().filter(|(input, _)| unclear || asked(input));
    for &role in clauses.flat_map(|(_, roles)| *roles) {
        let param = parameter(signature, role as usize).filter(|_| (role as usize) < inputs);
        let name = match param {
            Some(("input", _)) => "self",
            Some((name, _)) => name,
            None => "result",
        };
        let number = numbers || is_number(signature, role as usize, false);
        let kept = if number { Attribute::SavedNumber(role) } else { Attribute::Saved(role) };
        if list.iter().all(|(known, _)| *known != name) {
            list.push((name, kept));
        }
    }
    list
}

/// Stamps pointwise operations, see the [module](self).
#[macro_export]
macro_rules! pointwise_rows {
    ($(
        $(#[doc = $doc:literal])+
        $name:ident($($arg:ident $(: $kind:ident)?),+) -> $y:ident $(as $out:ident)?:
        $sig:literal, $promote:ident, $tags:expr $(, aka [$($alias:literal),+])? $(, via $via:expr)? => {
            $($class:ident: $body:expr),+ $(,)?
        } $($node:literal $(number $number_node:literal)? $(shows($attr:literal, $value:expr))* {
            $($input:ident saves($($save:ident),*): |$g:ident| $rule:expr),+ $(,)?
        })?
    )+) => {
        $(
            $(#[doc = $doc])+
            #[allow(clippy::too_many_arguments)]
            pub fn $name($($arg: &$crate::Tensor),+) -> $crate::Result<$crate::Tensor> {
                $name::run([$($arg),+], $crate::ops::Dest::New)
            }

            #[allow(missing_docs, unused_imports)]
            pub mod $name {
                use super::*;
                use $crate::graph::{Context, Gradients, Op, forward::diagonal, record};
                use $crate::ops::pointwise::{Promote, Spec, apply};
                use $crate::ops::macros::IntoGradient;

                $crate::pointwise_rows! {
                    @kernel [$($arg $(: $kind)?),+] [$($out)?] $($class: $body),+
                }

                pub static SPEC: Spec =
                    Spec { name: stringify!($name), kernel: &KERNEL, promote: Promote::$promote };

                #[allow(non_camel_case_types, dead_code)]
                enum Role { $($arg,)+ $y }

                const INPUTS: usize = $crate::pointwise_rows!(@count $($arg)+);

                #[allow(dead_code)]
                const CONDITIONS: [bool; INPUTS] =
                    [$($crate::pointwise_rows!(@condition $($kind)?)),+];

                #[inline]
                pub fn run(
                    [$($arg),+]: [&$crate::Tensor; INPUTS],
                    dest: $crate::ops::Dest,
                ) -> $crate::Result<$crate::Tensor> {
                    let inputs = [$($arg),+];
                    if $crate::batch::any(&inputs) {
                        return $crate::batch::lift::pointwise(inputs, |ts| run(ts, dest));
                    }
                    let $y = apply(&SPEC, &inputs, dest)?;
                    $(
                        if record::recording(&inputs) && matches!(dest, $crate::ops::Dest::New) {
                            #[allow(unused_mut)]
                            let mut saves = $crate::graph::Saves::new();
                            $( if $input.is_differentiated() {
                                $(
                                    let role = Role::$save as u8;
                                    if saves.iter().all(|(r, _)| *r != role) {
                                        saves.push((role, $save.as_ref()));
                                    }
                                )*
                            } )+
                            struct Rule<const NUMBER: bool>;
                            impl<const NUMBER: bool> Op for Rule<NUMBER> {
                                fn name(&self) -> &'static str {
                                    [$node, $($number_node)?][NUMBER as usize]
                                }
                                fn attributes(&self) -> $crate::graph::Attributes {
                                    let saved: &[(u8, &[u8])] =
                                        &[$((Role::$input as u8, &[$(Role::$save as u8),*])),+];
                                    #[allow(unused_mut)]
                                    let mut list = $crate::ops::macros::attributes($sig, INPUTS, saved, NUMBER);
                                    $(list.push(($attr, $value));)*
                                    list
                                }
                                fn hides(&self, input: usize) -> bool {
                                    CONDITIONS[input]
                                        || $crate::ops::macros::is_number($sig, input, NUMBER)
                                }
                                fn is_pointwise(&self) -> bool {
                                    true
                                }
                                #[allow(unused_variables)]
                                fn backward(
                                    &self,
                                    ctx: &Context,
                                    grads: &[Option<$crate::Tensor>],
                                ) -> $crate::Result<Gradients> {
                                    let mut out: Gradients =
                                        smallvec::smallvec![None; INPUTS];
                                    let Some(grad) = &grads[0] else { return Ok(out) };
                                    $( if ctx.needs(Role::$input as usize) {
                                        $( let $save = ctx.saved(Role::$save as u8); )*
                                        let $g = grad;
                                        out[Role::$input as usize] = ($rule).into_gradient();
                                    } )+
                                    Ok(out)
                                }
                                fn jvp(
                                    &self,
                                    ctx: &Context,
                                    tangents: &[Option<$crate::Tensor>],
                                    outputs: &[&$crate::Tensor],
                                ) -> $crate::Result<Option<Gradients>> {
                                    diagonal(self, ctx, tangents, outputs[0]).map(Some)
                                }
                            }
                            let rule: Box<dyn Op> =
                                $crate::pointwise_rows!(@rule inputs $($number_node)?);
                            record::record(&$y, &inputs, &saves, rule)?;
                        }
                    )?
                    Ok($y)
                }
            }
        )+

        /// This family's rows.
        pub const ROWS: &[$crate::ops::Row] = &[$(
            $crate::ops::Row {
                name: stringify!($name),
                aliases: &[$($($alias),+)?],
                signatures: &[$sig],
                doc: &[$($doc),+],
                tags: $tags,
                batch: $crate::batch::Batching::Pointwise,
                call: $crate::pointwise_rows!(@call $name ($($arg)+) $($via)?),
            }
        ),+];
    };

    (@rule $inputs:ident) => { Box::new(Rule::<false>) };
    (@rule $inputs:ident $number_node:literal) => {
        if $inputs.iter().any(|t| t.is_wrapped_number()) {
            Box::new(Rule::<true>)
        } else {
            Box::new(Rule::<false>)
        }
    };
    (@condition) => { false };
    (@condition $kind:ident) => { true };
    (@kernel [$($args:tt)+] [] $($rest:tt)+) => {
        $crate::pointwise! { pub static KERNEL: ($($args)+) -> same { $($rest)+ } }
    };
    (@kernel [$($args:tt)+] [bool] $($rest:tt)+) => {
        $crate::pointwise! { pub static KERNEL: ($($args)+) -> bool { $($rest)+ } }
    };
    (@count $a:ident) => { 1 };
    (@count $a:ident $b:ident) => { 2 };
    (@count $a:ident $b:ident $c:ident) => { 3 };
    (@count $a:ident $b:ident $c:ident $d:ident) => { 4 };
    (@call $name:ident ($($arg:ident)+) $via:expr) => { $crate::ops::Call::Into($via) };
    (@call $name:ident ($a:ident)) => {
        $crate::ops::Call::Into(|c, dest| $name::run([c.tensor(0)], dest))
    };
    (@call $name:ident ($a:ident $b:ident)) => {
        $crate::ops::Call::Into(|c, dest| $name::run([c.tensor(0), c.tensor(1)], dest))
    };
    (@call $name:ident ($a:ident $b:ident $c:ident)) => {
        $crate::ops::Call::Into(|c, dest| {
            $name::run([c.tensor(0), c.tensor(1), c.tensor(2)], dest)
        })
    };
    (@call $name:ident ($a:ident $b:ident $c:ident $d:ident)) => {
        $crate::ops::Call::Into(|c, dest| {
            $name::run([c.tensor(0), c.tensor(1), c.tensor(2), c.tensor(3)], dest)
        })
    };
}
