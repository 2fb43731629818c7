//! Lists of numbers by number, in two arrays.

use std::ops::Range;

/// Items in groups: the items of group `n` are consecutive and keep their order.
#[derive(Debug)]
pub(super) struct Groups<T> {
    /// Where each group starts in `items`, then where the last one ends.
    starts: Box<[u32]>,
    items: Box<[T]>,
}

impl<T: Clone> Groups<T> {
    /// Groups `items` by the number that comes with each, which must be below `count`.
    pub(super) fn new(count: usize, items: impl Iterator<Item = (u32, T)> + Clone) -> Self {
        let mut starts = vec![0_u32; count + 1];
        for (group, _) in items.clone() {
            starts[group as usize + 1] += 1;
        }
        for group in 0..count {
            starts[group + 1] += starts[group];
        }
        let mut next = starts.clone();
        let mut order = vec![0_u32; starts[count] as usize];
        let mut unordered = Vec::with_capacity(order.len());
        for (group, item) in items {
            let place = &mut next[group as usize];
            order[*place as usize] = unordered.len() as u32;
            *place += 1;
            unordered.push(item);
        }
        let items = order
            .iter()
            .map(|&index| unordered[index as usize].clone())
            .collect();
        Self {
            starts: starts.into(),
            items,
        }
    }
}

impl<T> Groups<T> {
    /// The indexes of the items of a group in [`Groups::items`].
    pub(super) fn range(&self, group: u32) -> Range<usize> {
        let group = group as usize;
        self.starts[group] as usize..self.starts[group + 1] as usize
    }

    /// The items of a group.
    pub(super) fn of(&self, group: u32) -> &[T] {
        &self.items[self.range(group)]
    }

    /// How many groups there are.
    pub(super) fn count(&self) -> u32 {
        self.starts.len() as u32 - 1
    }

    /// All items.
    pub(super) fn items(&self) -> &[T] {
        &self.items
    }

    /// Bytes of memory that this holds.
    pub(super) fn bytes(&self) -> usize {
        size_of_val::<[u32]>(&self.starts) + size_of_val::<[T]>(&self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_keep_their_order_in_their_group() {
        let items = [(2, 'a'), (0, 'b'), (2, 'c'), (0, 'd')];
        let groups = Groups::new(4, items.into_iter());
        assert_eq!(groups.of(0), ['b', 'd']);
        assert_eq!(groups.of(1), []);
        assert_eq!(groups.of(2), ['a', 'c']);
        assert_eq!(groups.of(3), []);
    }
}
