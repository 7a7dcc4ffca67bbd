//! A list that is cheap to copy and to change in one place.
//!
//! Each change of ten thousand services makes a new list of all of them. Copying ten thousand shared pointers
//! touches ten thousand counts, most of them in memory that no cache holds; that alone took a kill most of
//! a millisecond. In chunks, a copy touches one count for each 128 elements, and a change copies one chunk.

use std::ops::Index;
use std::sync::Arc;

const CHUNK: usize = 128;

/// A list whose copies share what they have in common.
#[derive(Clone, Debug)]
pub struct SharedList<T> {
    /// All full but the last, which is not empty.
    chunks: Vec<Arc<Vec<T>>>,
}

impl<T: Clone> SharedList<T> {
    /// How many elements it has.
    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// The element at `index`.
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// Puts another element at `index`; copies of the list keep theirs. Without such an element, nothing happens.
    pub fn set(&mut self, index: usize, element: T) {
        let place = self.chunks.get_mut(index / CHUNK).map(Arc::make_mut);
        if let Some(place) = place.and_then(|chunk| chunk.get_mut(index % CHUNK)) {
            *place = element;
        }
    }

    /// All elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flat_map(|chunk| chunk.iter())
    }
}

impl<T> Default for SharedList<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T: Clone> FromIterator<T> for SharedList<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut elements = elements.into_iter().peekable();
        let mut chunks = Vec::new();
        while elements.peek().is_some() {
            chunks.push(Arc::new(elements.by_ref().take(CHUNK).collect()));
        }
        Self { chunks }
    }
}

/// As for slices: panics beyond the end.
impl<T> Index<usize> for SharedList<T> {
    type Output = T;

    fn index(&self, index: usize) -> &T {
        &self.chunks[index / CHUNK][index % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_behaves_like_a_vector_and_copies_keep_theirs(len in 0usize..400, changes in proptest::collection::vec((0usize..400, any::<u32>()), 0..20)) {
            let mut expected: Vec<u32> = (0..len as u32).collect();
            let mut list: SharedList<u32> = expected.iter().copied().collect();
            let (copy, as_it_was) = (list.clone(), expected.clone());
            for (index, value) in changes {
                list.set(index, value);
                if let Some(place) = expected.get_mut(index) {
                    *place = value;
                }
            }
            prop_assert_eq!(list.iter().copied().collect::<Vec<_>>(), expected.clone());
            prop_assert_eq!(copy.iter().copied().collect::<Vec<_>>(), as_it_was);
            prop_assert_eq!((list.len(), list.is_empty()), (len, len == 0));
            for (index, value) in expected.iter().enumerate() {
                prop_assert_eq!(list.get(index), Some(value));
                prop_assert_eq!(&list[index], value);
            }
            prop_assert_eq!(list.get(len), None);
        }
    }

    #[test]
    fn a_copy_shares_the_chunks_that_did_not_change() {
        let list: SharedList<usize> = (0..CHUNK * 3).collect();
        let mut copy = list.clone();
        copy.set(CHUNK, 0);
        let shared = list.chunks.iter().zip(&copy.chunks).map(|(one, other)| Arc::ptr_eq(one, other));
        assert_eq!(shared.collect::<Vec<_>>(), [true, false, true]);
    }
}
