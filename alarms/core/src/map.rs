//! Hash tables with a fixed seed, so that two runs are alike in all they do.

use foldhash::fast::FixedState;

pub(crate) type Map<K, V> = hashbrown::HashMap<K, V, FixedState>;
