//! A map from devices, for the look-ups that every reading needs.

use hashbrown::HashMap;

use crate::DeviceId;

const PAGE: usize = 512;

/// A small value for each device, in pages by the device's number.
///
/// The directory numbers devices one after another, so pages are full and a
/// look-up touches one place in them, which is often near the last one. A hash
/// table touches two lines anywhere in its memory: with 100,000 devices, most of
/// what a look-up costs. A value that has a niche, such as a [`std::num::NonZero`],
/// takes no more than its own bytes.
#[derive(Clone, Debug)]
pub struct DeviceMap<T> {
    pages: HashMap<u64, Box<[Option<T>; PAGE]>, foldhash::fast::FixedState>,
    len: usize,
}

impl<T> Default for DeviceMap<T> {
    fn default() -> Self {
        Self { pages: HashMap::default(), len: 0 }
    }
}

impl<T: Copy> DeviceMap<T> {
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[must_use]
    pub fn get(&self, device: DeviceId) -> Option<T> {
        let (page, place) = split(device);
        self.pages.get(&page)?[place]
    }

    /// Sets a device's value; the one that it had before.
    pub fn insert(&mut self, device: DeviceId, value: T) -> Option<T> {
        let (page, place) = split(device);
        let page = self.pages.entry(page).or_insert_with(|| Box::new([None; PAGE]));
        let before = page[place].replace(value);
        self.len += usize::from(before.is_none());
        before
    }

    /// Forgets a device; the value that it had. Its page stays.
    pub fn remove(&mut self, device: DeviceId) -> Option<T> {
        let (page, place) = split(device);
        let before = self.pages.get_mut(&page)?[place].take();
        self.len -= usize::from(before.is_some());
        before
    }
}

fn split(device: DeviceId) -> (u64, usize) {
    let pages = PAGE as u64;
    let place = usize::try_from(device.0 % pages).expect("a page is small");
    (device.0 / pages, place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_one_value_for_each_device() {
        let mut map = DeviceMap::default();
        let ids = [0, 1, 511, 512, 513, 1 << 40, u64::MAX].map(DeviceId);
        for (value, id) in (0..).zip(ids) {
            assert_eq!(map.insert(id, value), None);
        }
        assert_eq!((map.len(), map.get(DeviceId(2)), map.get(DeviceId(1 << 20))), (7, None, None));
        assert_eq!(ids.map(|id| map.get(id)), [0, 1, 2, 3, 4, 5, 6].map(Some));
        assert_eq!(map.insert(DeviceId(512), 9), Some(3));
        assert_eq!((map.remove(DeviceId(512)), map.remove(DeviceId(512))), (Some(9), None));
        assert_eq!((map.len(), map.remove(DeviceId(1 << 30))), (6, None));
    }
}
