//! Tables whose numbers go over the wire.
//!
//! A number is an index and a generation: when an entry is removed its number becomes void, and the
//! next user of the place gets another one. So a late reply never reaches a stranger. Numbers are
//! positive as signed 32-bit integers and never 0.

const INDEX_BITS: u32 = 18;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATIONS: u32 = 1 << (31 - INDEX_BITS);

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

/// Entries under generation-checked numbers.
#[derive(Debug)]
pub(crate) struct Table<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Puts an entry in and gives its number; `None` (and the entry is gone) when 2^18 are in use.
    pub(crate) fn insert(&mut self, value: T) -> Option<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.slots.len()).ok().filter(|&i| i <= INDEX_MASK)?;
                self.slots.push(Slot { generation: 0, value: None });
                index
            }
        };
        let slot = &mut self.slots[index as usize];
        // Generation 0 is left out, so that no number is 0.
        slot.generation = slot.generation % (GENERATIONS - 1) + 1;
        slot.value = Some(value);
        Some(slot.generation << INDEX_BITS | index)
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn slot(&self, number: u32) -> Option<usize> {
        let index = (number & INDEX_MASK) as usize;
        let slot = self.slots.get(index)?;
        (slot.generation == number >> INDEX_BITS && slot.value.is_some()).then_some(index)
    }

    /// The entry of this number.
    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.slots[self.slot(number)?].value.as_ref()
    }

    /// The entry of this number.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        let index = self.slot(number)?;
        self.slots[index].value.as_mut()
    }

    /// Takes the entry out; its number is void.
    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let index = self.slot(number)?;
        self.free.push(number & INDEX_MASK);
        self.slots[index].value.take()
    }

    /// Every entry with its number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.slots.iter().enumerate().filter_map(|(index, slot)| {
            let number = slot.generation << INDEX_BITS | index as u32;
            slot.value.as_ref().map(|value| (number, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_void_after_its_entry_and_not_given_again_soon() {
        let mut table = Table::default();
        let mut numbers = std::collections::BTreeSet::new();
        for i in 0..8000 {
            let number = table.insert(i).unwrap();
            assert!(number != 0 && i32::try_from(number).is_ok());
            assert!(numbers.insert(number), "{number:#x} twice");
            assert_eq!(table.get(number), Some(&i));
            assert_eq!(table.remove(number), Some(i));
            assert_eq!(table.get(number), None);
            assert_eq!(table.remove(number), None);
        }
    }

    #[test]
    fn entries_do_not_disturb_each_other() {
        let mut table = Table::default();
        let numbers: Vec<u32> = (0..100).map(|i| table.insert(i).unwrap()).collect();
        for (i, &number) in numbers.iter().enumerate().filter(|(i, _)| i % 3 == 0) {
            assert_eq!(table.remove(number), Some(i));
        }
        let left: Vec<usize> = table.iter().map(|(_, &v)| v).collect();
        assert!(left.iter().all(|i| i % 3 != 0) && left.len() == 66);
        *table.get_mut(numbers[1]).unwrap() = 7;
        assert_eq!(table.get(numbers[1]), Some(&7));
    }
}
