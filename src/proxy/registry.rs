//! A set whose members have numbers, so that leaving it is as cheap as joining.

use std::cell::RefCell;

/// What is open at the moment on one thread.
#[derive(Debug)]
pub(super) struct Registry<T> {
    inner: RefCell<Slots<T>>,
}

#[derive(Debug)]
struct Slots<T> {
    members: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T: Clone> Registry<T> {
    pub(super) fn new() -> Self {
        Self { inner: RefCell::new(Slots { members: Vec::new(), free: Vec::new() }) }
    }

    /// The number to leave with.
    pub(super) fn join(&self, member: T) -> usize {
        let mut inner = self.inner.borrow_mut();
        if let Some(number) = inner.free.pop() {
            inner.members[number] = Some(member);
            number
        } else {
            inner.members.push(Some(member));
            inner.members.len() - 1
        }
    }

    pub(super) fn leave(&self, number: usize) {
        let mut inner = self.inner.borrow_mut();
        let left = inner.members.get_mut(number).and_then(Option::take);
        if left.is_some() {
            inner.free.push(number);
        }
        drop(inner);
        drop(left);
    }

    pub(super) fn len(&self) -> usize {
        let inner = self.inner.borrow();
        inner.members.len() - inner.free.len()
    }

    /// Calls `visit` with every member; it may join and leave meanwhile.
    pub(super) fn each(&self, mut visit: impl FnMut(&T)) {
        let mut number = 0;
        loop {
            let member = match self.inner.borrow().members.get(number) {
                None => return,
                Some(member) => member.clone(),
            };
            if let Some(member) = member {
                visit(&member);
            }
            number += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_and_go_while_others_are_visited() {
        let registry = Registry::new();
        let numbers: Vec<_> = (0..4).map(|member| registry.join(member)).collect();
        registry.leave(numbers[1]);
        registry.leave(numbers[1]);
        assert_eq!(registry.len(), 3);
        assert_eq!(registry.join(9), numbers[1]);
        let mut seen = Vec::new();
        registry.each(|member| {
            seen.push(*member);
            registry.leave(numbers[3]);
        });
        assert_eq!(seen, [0, 9, 2]);
        assert_eq!(registry.len(), 3);
    }
}
