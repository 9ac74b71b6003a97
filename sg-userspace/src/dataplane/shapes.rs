//! What every map of the object must be, and what is pinned instead.
//!
//! aya takes a pin as it is, whatever it is. A map of another shape would be
//! read as something that it is not, so every pin is looked at before.

use std::{
    collections::HashMap,
    fmt,
    os::fd::{AsFd, AsRawFd},
    path::{Path, PathBuf},
};

use sg_common::maps;
use thiserror::Error;

use super::{object, pins::Pins, sys};

/// Why what is pinned cannot be used.
#[derive(Debug, Error)]
pub enum ShapeError {
    /// The object cannot be read.
    #[error("the kernel program cannot be read: {0}")]
    Object(String),
    /// Something else is pinned there.
    #[error(
        "the pin {path} is {found}, and this daemon needs {expected}; nothing was changed, and what is in force stays \
         in force: `sgd --detach` takes it off and removes the pins, after which sgd starts anew"
    )]
    Differs {
        /// The pin.
        path: PathBuf,
        /// What it is.
        found: String,
        /// What it should be.
        expected: Shape,
    },
    /// Links are pinned, but not all their maps.
    #[error(
        "the pin {0} is missing, but devices are protected by programs that use it; nothing was changed, and what is \
         in force stays in force: `sgd --detach` takes it off and removes the pins, after which sgd starts anew"
    )]
    Missing(PathBuf),
    /// A pin cannot be looked at.
    #[error("cannot look at the pin {path}: {error}")]
    Io {
        /// The pin.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
}

/// Entries of the conntrack tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Of each table of confirmed flows.
    pub flows: u32,
    /// Of each table of unconfirmed ones.
    pub churn: u32,
}

impl Sizes {
    /// As many confirmed flows per family, and a quarter of it in each table of unconfirmed ones.
    pub const fn of(max_flows: u32) -> Self {
        Self { flows: max_flows, churn: max_flows / 4 }
    }

    /// Names of the tables with their entries.
    pub fn by_name(self) -> impl Iterator<Item = (&'static str, u32)> {
        let flows = maps::FLOWS.into_iter().map(move |name| (name, self.flows));
        flows.chain(maps::CHURN.into_iter().flatten().map(move |name| (name, self.churn)))
    }
}

/// What a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its type, see `enum bpf_map_type`.
    pub kind: u32,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Elements.
    pub entries: u32,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, key, value, entries } = self;
        write!(f, "a map of type {kind} with {entries} elements, keys of {key} and values of {value} bytes")
    }
}

/// The shapes of an object's maps by name, with these sizes of the conntrack tables.
///
/// # Errors
/// [`ShapeError::Object`].
pub fn of_object(bytes: &[u8], sizes: Sizes) -> Result<HashMap<String, Shape>, ShapeError> {
    let object = aya_obj::Object::parse(bytes).map_err(|e| ShapeError::Object(e.to_string()))?;
    let shape = |m: &aya_obj::Map| Shape {
        kind: m.map_type(),
        key: m.key_size(),
        value: m.value_size(),
        entries: m.max_entries(),
    };
    let mut shapes: HashMap<String, Shape> = object.maps.iter().map(|(name, map)| (name.clone(), shape(map))).collect();
    for (name, entries) in sizes.by_name() {
        if let Some(shape) = shapes.get_mut(name) {
            shape.entries = entries;
        }
    }
    Ok(shapes)
}

/// What is pinned at a path; `None` when nothing is.
///
/// # Errors
/// What it is instead of a map.
fn of_pin(path: &Path) -> Result<Option<Result<Shape, String>>, ShapeError> {
    let failed = |error| ShapeError::Io { path: path.into(), error };
    let fd = match sys::open_pin(path) {
        Ok(fd) => fd,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    };
    // Programs and links answer the same question with other words.
    let what = std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(failed)?;
    if !what.to_string_lossy().contains("bpf-map") {
        return Ok(Some(Err(format!("no map ({})", what.display()))));
    }
    let [kind, _, key, value, entries, _] = sys::map_info(fd.as_fd()).map_err(failed)?;
    Ok(Some(Ok(Shape { kind, key, value, entries })))
}

/// Whether exactly this is pinned at a path.
pub fn is_pinned(path: &Path, shape: Shape) -> bool {
    matches!(of_pin(path), Ok(Some(Ok(found))) if found == shape)
}

/// Looks at every pin of a set. Returns the sizes of its conntrack tables, or
/// `None` when no whole set is there and nothing uses what there is: no link, and
/// no filter (`filters`), which has no pin that would tell.
///
/// # Errors
/// The first pin that is not what it should be.
pub fn check(bytes: &[u8], pins: &Pins, filters: impl Fn() -> bool) -> Result<Option<Sizes>, ShapeError> {
    let mut found = HashMap::new();
    for name in object::names() {
        let path = pins.dir.join(name);
        match of_pin(&path)? {
            Some(what) => drop(found.insert(name, what)),
            None if found.is_empty() && !pins.links.exists() => return Ok(None),
            None if super::attach::pinned(&pins.links).is_empty() && !filters() => return Ok(None),
            None => return Err(ShapeError::Missing(path)),
        }
    }
    for name in object::ADDED {
        found.extend(of_pin(&pins.dir.join(name))?.map(|what| (name, what)));
    }
    let entries = |name| match found.get(name) {
        Some(Ok(shape)) => shape.entries,
        _ => 0,
    };
    let sizes = Sizes { flows: entries(maps::FLOWS[0]), churn: entries(maps::CHURN[0][0]) };
    let expected = of_object(bytes, sizes)?;
    // First what they are, since the sizes were read from two of them.
    for entries_count in [false, true] {
        for name in object::names().into_iter().chain(object::ADDED) {
            let (Some(what), Some(&expected)) = (found.get(name), expected.get(name)) else { continue };
            let fits = what.as_ref().is_ok_and(|shape| {
                *shape == Shape { entries: if entries_count { expected.entries } else { shape.entries }, ..expected }
            });
            if !fits {
                let found = what.as_ref().map_or_else(String::clone, Shape::to_string);
                return Err(ShapeError::Differs { path: pins.dir.join(name), found, expected });
            }
        }
    }
    Ok(Some(sizes))
}
