//! Anonymous mappings: memory that is shared with the kernel.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

/// The distance between consecutive buffers of `bytes` bytes: an odd number of cache lines, so that
/// their first lines do not all map to one cache set.
pub(super) const fn stride(bytes: usize) -> usize {
    (bytes.div_ceil(64) | 1) * 64
}

/// A multiple of the page size on most machines. On others [`Mapping::discard`] does nothing,
/// because the kernel refuses an unaligned address.
const PAGE_BYTES: usize = 4_096;

/// Most buffers of a [`BufferMemory`] that keep the memory of long datagrams.
const GROWN_MAX: usize = 16;

/// Bounds the resident memory of equal buffers, of which each is used for datagrams of any length.
///
/// A buffer that held more than [`BufferMemory::SHORT_BYTES`] keeps its memory only if few others
/// do. So long datagrams make at most [`GROWN_MAX`] buffers resident as a whole, and of each other
/// buffer the pages of a short datagram.
#[derive(Debug)]
pub(super) struct BufferMemory {
    /// Which buffers keep the memory of a long datagram.
    grown: Box<[bool]>,
    count: usize,
}

impl BufferMemory {
    /// Datagrams of up to this length use memory that their buffer always keeps.
    const SHORT_BYTES: usize = 4_096;

    /// The memory of `count` buffers that were never used.
    pub(super) fn new(count: usize) -> Self {
        Self {
            grown: vec![false; count].into(),
            count: 0,
        }
    }

    /// Records that buffer `at`, with the range `buffer` of `mapping`, is free again after its
    /// first `used` bytes were written to, and returns memory if too much is in use.
    ///
    /// # Safety
    ///
    /// The kernel must not use the buffer during the call.
    #[inline]
    pub(super) unsafe fn freed(
        &mut self,
        mapping: &mut Mapping,
        at: usize,
        buffer: Range<usize>,
        used: usize,
    ) {
        if used <= Self::SHORT_BYTES || self.grown[at] {
            return;
        }
        if self.count < GROWN_MAX {
            self.grown[at] = true;
            self.count += 1;
            return;
        }
        // SAFETY: the caller excludes the kernel.
        unsafe { mapping.discard(buffer.start + Self::SHORT_BYTES..buffer.end) };
    }
}

/// Returns freed memory to the system. Otherwise the allocator keeps what a load has freed until
/// the next load.
pub fn release_freed_memory() {
    // SAFETY: it touches only the allocator's own free memory, under the allocator's lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Makes all threads that start from now on share one heap. Otherwise each of the first threads
/// reserves 64 MB of address space, and a limit on address space (`RLIMIT_AS`) is met at once.
pub fn use_one_heap() {
    // SAFETY: it sets a parameter of the allocator, under the allocator's lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1)
    };
}

/// Zeroed memory at a fixed address, aligned to a page. A page that is never touched uses no
/// memory.
///
/// A [`Mapping`] never forms a reference to more than the range that was asked for: the kernel may
/// be writing to, or reading from, the rest.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, at least one.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address that the kernel chooses overlaps no other.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not map address 0 unasked");
        let mapping = Self { start, len };
        // With huge pages the first byte of a buffer would cost 2 MiB. Kernels without huge pages
        // refuse the call, which is fine.
        // SAFETY: the range is exactly the mapping made above.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        Ok(mapping)
    }

    /// The address of the byte at `offset`.
    ///
    /// # Panics
    ///
    /// If `offset` is outside the mapping.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "an offset inside the mapping");
        // SAFETY: the offset was just checked; start..start+len is one mapping.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    ///
    /// The kernel must not use these bytes while the slice lives.
    pub(super) unsafe fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start < range.end && range.end <= self.len);
        // SAFETY: the range is inside the mapping, which is initialized (zeroed) and lives as long
        // as `self`. `&mut self` excludes our own code, the caller excludes the kernel.
        unsafe { std::slice::from_raw_parts_mut(self.at(range.start), range.len()) }
    }

    /// Returns the memory of the pages that lie inside `range` to the system. Their bytes read as
    /// zeros afterwards.
    ///
    /// # Safety
    ///
    /// The kernel must not use these bytes during the call.
    pub(super) unsafe fn discard(&mut self, range: Range<usize>) {
        let start = range.start.next_multiple_of(PAGE_BYTES);
        let end = range.end / PAGE_BYTES * PAGE_BYTES;
        if start >= end || end > self.len {
            return;
        }
        // SAFETY: the pages are inside the mapping. `&mut self` excludes our own code, the caller
        // excludes the kernel. A refusal changes nothing.
        unsafe { libc::madvise(self.at(start).cast(), end - start, libc::MADV_DONTNEED) };
    }

    /// Leaks the mapping, because the kernel may still use it.
    pub(super) fn leak(&mut self) {
        self.len = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: this is the mapping made in `new`, and nothing borrows from it.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stride_is_an_odd_number_of_lines() {
        for bytes in [1, 64, 65, 128, 65_507, 65_536] {
            assert!(stride(bytes) >= bytes);
            assert_eq!(stride(bytes) % 128, 64);
        }
    }

    #[test]
    fn only_whole_pages_of_a_range_are_discarded() {
        let mut mapping = Mapping::new(5 * PAGE_BYTES).unwrap();
        // SAFETY: the kernel does not know this mapping.
        unsafe { mapping.bytes_mut(0..5 * PAGE_BYTES) }.fill(1);
        // SAFETY: as above.
        unsafe { mapping.discard(100..4 * PAGE_BYTES + 100) };
        // SAFETY: as above.
        let bytes = unsafe { mapping.bytes_mut(0..5 * PAGE_BYTES) };
        let pages: Vec<_> = bytes.chunks(PAGE_BYTES).map(|page| page[0]).collect();
        assert_eq!(pages, [1, 0, 0, 0, 1]);
    }

    #[test]
    fn few_buffers_keep_the_memory_of_long_datagrams() {
        const BYTES: usize = 16 * PAGE_BYTES;
        let count = GROWN_MAX + 4;
        let mut mapping = Mapping::new(count * BYTES).unwrap();
        let mut memory = BufferMemory::new(count);
        for _ in 0..3 {
            for at in 0..count {
                let buffer = at * BYTES..(at + 1) * BYTES;
                // SAFETY: the kernel does not know this mapping.
                unsafe { mapping.bytes_mut(buffer.clone()) }.fill(1);
                // SAFETY: as above.
                unsafe { memory.freed(&mut mapping, at, buffer, BYTES) };
            }
        }
        let kept = (0..count).filter(|at| {
            let last = (at + 1) * BYTES;
            // SAFETY: as above.
            let byte = unsafe { mapping.bytes_mut(last - 1..last) };
            byte[0] == 1
        });
        assert_eq!(kept.count(), GROWN_MAX);
    }

    #[test]
    fn mapped_memory_is_zeroed_and_writable() {
        let mut mapping = Mapping::new(10_000).unwrap();
        // SAFETY: the kernel does not know this mapping.
        let bytes = unsafe { mapping.bytes_mut(5_000..10_000) };
        assert!(bytes.iter().all(|b| *b == 0));
        bytes[4_999] = 1;
        assert_eq!(mapping.at(0) as usize % 4096, 0);
    }
}
