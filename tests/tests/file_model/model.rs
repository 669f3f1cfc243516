//! What a file may look like to two who use it at the same time.
//!
//! Every write has reached the node that has the file when it returns, so there is one history of versions. Who opens
//! the file sees the present version. While it is open, what he reads without asking the node (pages that he has) may be
//! older, but never older than his `open` or his own last change of the place, and never anything that was not in the
//! file. A strict reader (`O_DIRECT`) sees the present version always.

/// Largest size of the file.
pub(crate) const MOST: usize = 48 * 1024;

/// The file's versions, the last one the present.
#[derive(Debug)]
pub(crate) struct History {
    versions: Vec<Vec<u8>>,
}

impl History {
    /// An empty file.
    pub(crate) fn new() -> Self {
        Self { versions: vec![Vec::new()] }
    }

    /// The present version.
    pub(crate) fn now(&self) -> &[u8] {
        self.versions.last().expect("there is always one")
    }

    /// A new version.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut next = self.now().to_vec();
        change(&mut next);
        self.versions.push(next);
    }

    fn number(&self) -> usize {
        self.versions.len() - 1
    }
}

/// Puts bytes at a place; a gap before it is zeros.
pub(crate) fn put(file: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[at..end].copy_from_slice(bytes);
}

/// What one who has the file open must at least know, place by place: a version's number.
#[derive(Debug)]
pub(crate) struct View {
    known: Vec<usize>,
    opened: usize,
    strict: bool,
    read: bool,
}

impl View {
    /// Of one who opens it now.
    pub(crate) fn open(history: &History, strict: bool) -> Self {
        Self { known: vec![history.number(); MOST], opened: history.number(), strict, read: true }
    }

    /// He has opened it to write it and not to read it.
    pub(crate) fn only_written(self) -> Self {
        Self { read: false, ..self }
    }

    /// Whether he can read.
    pub(crate) fn is_read(&self) -> bool {
        self.read
    }

    /// He has changed this range himself (his change is the present version).
    pub(crate) fn changed(&mut self, history: &History, at: usize, end: usize) {
        let end = end.min(MOST);
        if at < end {
            self.known[at..end].fill(history.number());
        }
    }

    /// Is this a size that the file had since he opened it? Attributes may be old for a moment.
    pub(crate) fn may_have_size(&self, history: &History, size: usize) -> bool {
        history.versions[self.opened..].iter().any(|version| version.len() == size)
    }

    /// Is this what he may read at `at` when he asks for `len` bytes? `Err` tells the first place that is not.
    pub(crate) fn may_read(
        &self,
        history: &History,
        at: usize,
        len: usize,
        read: &[u8],
    ) -> Result<(), String> {
        let places = (at..at + len).take(read.len() + 1);
        for (place, byte) in places.zip(read.iter().copied().map(Some).chain([None])) {
            let oldest = if self.strict { history.number() } else { self.known[place.min(MOST - 1)] };
            let mut versions = history.versions[oldest..].iter();
            if !versions.any(|version| version.get(place).copied() == byte) {
                return Err(format!(
                    "at {place}: {byte:?} was not there since version {oldest}, is {:?} in version {}",
                    history.now().get(place),
                    history.number()
                ));
            }
        }
        Ok(())
    }
}
