//! Garbage that counting alone does not find.
//!
//! Tensors and nodes are counted, and two kinds of cycles keep counts above zero for ever.
//!
//! **Inside the engine**: a leaf whose `.grad` was recorded (`create_graph=True`) owns, through that
//! gradient's history and the accumulator at its end, itself. Every other path leads backwards in
//! time, but for that of a tensor that was written to in place after an operation saved it, with a
//! value that depends on that operation. So a tensor that loses its last user while it has such a
//! gradient, or was written to, is a *suspect*
//! ([`suspect`]), and [`collect`] does trial deletion: over everything that suspects own it subtracts
//! from each count the owners that it saw. What has others left, and what those own, stays; the rest
//! can be reached by nobody, and letting go of its gradients and histories frees it. The list is gone
//! through when it has doubled since the last time, so that suspects which turn out to be alive cost
//! a constant share each, and when the embedding language collects its own garbage.
//!
//! **Through the embedding language**: a hook's closure may own the tensor that the hook is on. That
//! language's collector can see such a cycle if the tensor's object shows it the closure. [`hosts`]
//! enumerates the objects that are owned through one handle *and through nothing else*: it goes on
//! from a tensor or node only when it has come there as often as the count says. Showing less than
//! there is only means that a cycle stays; showing more would free what lives. So collections of young
//! objects, which come every few hundred allocations, are shown no more than the [`NEAR`] surroundings.
//!
//! Both look without a lock on the whole graph. That is sound, because a thread that works on a graph
//! holds a handle to where it entered, which neither walk has seen: everything behind it counts as
//! alive.
#![allow(unsafe_code)]

use super::arena::NodeRef;
use crate::tensor::{Tensor, WeakTensor};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a tensor or a node owns.
pub(crate) enum Owned<'a> {
    Tensor(&'a Tensor),
    Node(&'a NodeRef),
    /// An object of the embedding language.
    Host(&'a (dyn Any + Send + Sync)),
}

/// A tensor or node that is looked at without being counted.
enum Object {
    Tensor(ManuallyDrop<Tensor>),
    Node(ManuallyDrop<NodeRef>),
}

impl Object {
    /// # Safety
    /// What is owned lives for as long as the result is used.
    unsafe fn tensor(tensor: &Tensor) -> Object {
        // SAFETY: a bitwise copy of a handle that is never dropped; the caller answers for its life.
        Object::Tensor(ManuallyDrop::new(unsafe { std::ptr::read(tensor) }))
    }

    /// # Safety
    /// As for `tensor`.
    unsafe fn node(node: &NodeRef) -> Object {
        // SAFETY: as above.
        Object::Node(ManuallyDrop::new(unsafe { std::ptr::read(node) }))
    }

    fn address(&self) -> usize {
        match self {
            Object::Tensor(t) => t.address(),
            Object::Node(n) => n.address(),
        }
    }

    fn owners(&self) -> usize {
        match self {
            Object::Tensor(t) => t.owners(),
            Object::Node(n) => n.owners(),
        }
    }

    /// Shows what this owns. `visit` runs under a lock of this object and only makes notes.
    fn owned(&self, visit: &mut dyn FnMut(Owned<'_>)) {
        match self {
            Object::Tensor(t) => t.owned(visit),
            Object::Node(n) => n.owned(visit),
        }
    }
}

/// Objects that one walk goes through before it gives up and shows no more: in a full collection of
/// the embedding language, and in one of young objects only. Those come so often that walking through
/// all of a long graph each time would make building it take time by the square of its length.
const FAR: usize = 1 << 20;
const NEAR: usize = 1 << 8;

static REACH: AtomicUsize = AtomicUsize::new(FAR);

/// Says whether the collection that begins is a full one. Walks must see the same all through one.
pub fn set_thorough(thorough: bool) {
    REACH.store(if thorough { FAR } else { NEAR }, Ordering::Relaxed);
}

/// Shows the objects of the embedding language that would go if this handle went.
pub fn hosts(tensor: &Tensor, visit: &mut dyn FnMut(&(dyn Any + Send + Sync))) {
    // SAFETY: the caller's handle keeps it alive.
    exclusive(unsafe { Object::tensor(tensor) }, visit);
}

/// [`hosts`] for a handle to a node.
pub fn hosts_of_node(node: &NodeRef, visit: &mut dyn FnMut(&(dyn Any + Send + Sync))) {
    // SAFETY: as above.
    exclusive(unsafe { Object::node(node) }, visit);
}

fn exclusive(root: Object, visit: &mut dyn FnMut(&(dyn Any + Send + Sync))) {
    if root.owners() != 1 {
        return;
    }
    let mut seen: HashMap<usize, usize> = HashMap::new();
    let mut next = vec![root];
    let mut passed = 0;
    let reach = REACH.load(Ordering::Relaxed);
    while let Some(object) = next.pop() {
        passed += 1;
        if passed > reach {
            return;
        }
        object.owned(&mut |owned| {
            // SAFETY: objects that are reached are owned by the root, which lives during the walk.
            let child = unsafe {
                match owned {
                    Owned::Host(host) => return visit(host),
                    Owned::Tensor(t) => Object::tensor(t),
                    Owned::Node(n) => Object::node(n),
                }
            };
            let count = seen.entry(child.address()).or_insert(0);
            *count += 1;
            if *count == child.owners() {
                next.push(child);
            }
        });
    }
}

/// Tensors that may own themselves.
static SUSPECTS: Mutex<Suspects> = Mutex::new(Suspects { list: Vec::new(), enough: ENOUGH });

struct Suspects {
    list: Vec<WeakTensor>,
    /// Length at which the list is gone through.
    enough: usize,
}

const ENOUGH: usize = 16;

/// Notes that a tensor, which loses a user, may be left with nobody but itself.
#[cold]
pub fn suspect(tensor: &Tensor) {
    let due = {
        let mut suspects = SUSPECTS.lock();
        suspects.list.push(tensor.downgrade());
        suspects.list.len() >= suspects.enough
    };
    if due {
        collect();
    }
}

/// Whether there is anything for [`collect`] to look at.
pub fn is_suspecting() -> bool {
    !SUSPECTS.lock().list.is_empty()
}

/// Frees the suspects that only own each other; gives how many tensors and nodes that were.
pub fn collect() -> usize {
    let list = std::mem::take(&mut SUSPECTS.lock().list);
    let suspects: Vec<Tensor> = list.iter().filter_map(WeakTensor::upgrade).collect();
    let mut survey = Survey::default();
    for tensor in &suspects {
        // SAFETY: `suspects` keeps it alive during the walk.
        let at = survey.add(unsafe { Object::tensor(tensor) });
        // The handle in `suspects` does not count as somebody's.
        survey.seen[at] += 1;
    }
    survey.walk();
    let alive = survey.alive();
    let (mut remain, mut retired) = (Vec::new(), Vec::new());
    let mut kept = HashSet::new();
    for tensor in &suspects {
        if alive[survey.places[&tensor.address()]] && kept.insert(tensor.address()) {
            remain.push(tensor.downgrade());
        }
    }
    for (object, _) in survey.objects.iter().zip(&alive).filter(|(_, alive)| !**alive) {
        if let Object::Tensor(tensor) = object {
            retired.push(tensor.retire());
        }
    }
    let freed = alive.iter().filter(|alive| !**alive).count();
    {
        let mut suspects = SUSPECTS.lock();
        suspects.list.append(&mut remain);
        suspects.enough = ENOUGH.max(2 * suspects.list.len());
    }
    // The survey's uncounted handles are void from here on.
    drop(survey);
    drop(retired);
    freed
}

/// Everything that some tensors own, with the owners that were seen.
#[derive(Default)]
struct Survey {
    places: HashMap<usize, usize>,
    objects: Vec<Object>,
    seen: Vec<usize>,
    children: Vec<Vec<usize>>,
}

impl Survey {
    fn add(&mut self, object: Object) -> usize {
        *self.places.entry(object.address()).or_insert_with(|| {
            self.objects.push(object);
            self.seen.push(0);
            self.objects.len() - 1
        })
    }

    fn walk(&mut self) {
        let mut at = 0;
        while at < self.objects.len() {
            let mut owned = Vec::new();
            self.objects[at].owned(&mut |what| match what {
                // SAFETY: what is reached is owned by the tensors that the walk began with.
                Owned::Tensor(t) => owned.push(unsafe { Object::tensor(t) }),
                // SAFETY: as above.
                Owned::Node(n) => owned.push(unsafe { Object::node(n) }),
                Owned::Host(_) => {}
            });
            let children: Vec<usize> = owned.into_iter().map(|child| self.add(child)).collect();
            children.iter().for_each(|&child| self.seen[child] += 1);
            self.children.push(children);
            at += 1;
        }
    }

    /// What has owners that were not seen, and all that those own.
    fn alive(&self) -> Vec<bool> {
        let mut alive = vec![false; self.objects.len()];
        let others = |i: &usize| self.objects[*i].owners() > self.seen[*i];
        let mut next: Vec<usize> = (0..self.objects.len()).filter(others).collect();
        while let Some(i) = next.pop() {
            if !std::mem::replace(&mut alive[i], true) {
                next.extend(&self.children[i]);
            }
        }
        alive
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Backward, Hook, backward, live_nodes};
    use std::sync::Arc;

    fn leaf() -> Tensor {
        let x = Tensor::from_slice(&[1.0f64, 2.0], &[2]).unwrap();
        x.set_requires_grad(true).unwrap();
        x
    }

    fn with_recorded_gradient() -> Tensor {
        let x = leaf();
        let y = crate::ops::reduce::sum(&(&(&x * &x) * &x), None, false, None).unwrap();
        let options = Backward { retain_graph: true, create_graph: true };
        backward(&[y], &[None], None, options).unwrap();
        assert!(x.grad().unwrap().requires_grad());
        x
    }

    #[test]
    fn a_gradient_that_owns_its_leaf_is_collected() {
        let x = with_recorded_gradient();
        let weak = x.downgrade();
        suspect(&x);
        collect();
        assert!(weak.upgrade().is_some(), "it has a user");
        drop(x);
        assert!(weak.upgrade().is_some(), "it owns itself");
        collect();
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn a_user_of_the_gradient_keeps_the_leaf() {
        let x = with_recorded_gradient();
        let (weak, gradient) = (x.downgrade(), x.grad().unwrap());
        suspect(&x);
        drop(x);
        collect();
        let again = weak.upgrade().expect("the gradient's history leads to the leaf");
        assert!(again.grad().unwrap().same(&gradient));
        drop((again, gradient));
        collect();
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn only_what_one_handle_owns_is_shown() {
        let count = |t: &Tensor| {
            let mut n = 0;
            hosts(t, &mut |_| n += 1);
            n
        };
        let x = leaf();
        let y = &x * &x;
        let hook = |_: Option<&Tensor>| Ok(None);
        y.register_hook(Hook::of(Arc::new(1), Arc::new(hook))).unwrap();
        assert_eq!(count(&y), 1);
        let (a, b) = (&y * &y, &y + &y);
        assert_eq!(count(&y), 0, "its history has other owners");
        assert_eq!(count(&a), 0);
        drop(b);
        drop(y);
        assert_eq!(count(&a), 1, "also where several ways lead to the node");
        let nodes = live_nodes();
        assert!(nodes > 0);
    }
}
