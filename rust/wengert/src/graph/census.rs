//! Which live graphs hold how much memory, and which lines of the program made them.
//!
//! A counting of all nodes alive, taken while other threads go on: each is looked at through a
//! handle of its own, so it cannot go away meanwhile; which of the nodes that come and go during
//! the count are in it is chance.

use super::arena::{self, SLOT_BYTES};
use super::site::Site;
use std::collections::{HashMap, HashSet};

/// What the nodes recorded at one place of the program hold.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Where the operations ran.
    pub site: Site,
    /// The name of their nodes, and of others if one line has several, in order of number.
    pub names: Vec<(String, usize)>,
    /// How many nodes.
    pub nodes: usize,
    /// Bytes of memory that they saved for backward, each storage counted once, where the oldest
    /// node that saved it was made. Memory of leaves that require grad is not counted: it lives
    /// with or without a graph.
    pub saved: usize,
}

impl Holding {
    /// Bytes in all: what is saved and the nodes themselves.
    pub fn bytes(&self) -> usize {
        self.saved + self.nodes * SLOT_BYTES
    }
}

/// All live graphs by the place that made them, those that hold most first.
pub fn census() -> Vec<Holding> {
    let mut nodes = arena::all_nodes();
    nodes.retain(|node| node.op().leaf().is_none());
    nodes.sort_unstable_by_key(|node| node.sequence());
    let mut found: HashMap<Site, Holding> = HashMap::new();
    let mut seen = HashSet::new();
    for node in &nodes {
        let state = node.state.lock();
        let site = state.site;
        let holding = found.entry(site).or_insert_with(|| Holding {
            site,
            names: Vec::new(),
            nodes: 0,
            saved: 0,
        });
        holding.nodes += 1;
        for tensor in state.saved.iter().flat_map(|s| &s.tensor) {
            let lives_anyway = tensor.requires_grad() && tensor.is_leaf();
            if !lives_anyway && seen.insert(tensor.storage().data()) {
                holding.saved += tensor.storage().bytes();
            }
        }
        drop(state);
        match holding.names.iter_mut().find(|(name, _)| name == node.name()) {
            Some((_, count)) => *count += 1,
            None => holding.names.push((node.name().to_owned(), 1)),
        }
    }
    // No lock is held here, and the handles go: some may be the last ones by now.
    drop(nodes);
    let mut holdings: Vec<Holding> = found.into_values().collect();
    for holding in &mut holdings {
        holding.names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    }
    holdings.sort_by_key(|h| (std::cmp::Reverse(h.bytes()), h.site.get()));
    holdings
}
