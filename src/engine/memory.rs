//! Memory that is shared with the kernel: anonymous mappings.

use std::io;
use std::ops::Range;
use std::ptr::{self, NonNull};

/// The distance between buffers of `bytes` bytes that follow one another: an odd number of cache lines, so that their first
/// lines do not all fall into one cache set.
pub(super) const fn stride(bytes: usize) -> usize {
    (bytes.div_ceil(64) | 1) * 64
}

/// Gives memory that was freed back to the system: what a load of a configuration leaves behind would otherwise stay with the
/// allocator until the next one.
pub fn release_freed_memory() {
    // SAFETY: it looks at the allocator's own memory only, under the allocator's own lock.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0)
    };
}

/// Zeroed memory at a fixed address, aligned to a page; a page that is never touched takes no memory.
///
/// A [`Mapping`] itself never forms a reference to more than what it is asked for: the kernel may be writing to, or
/// reading from, the rest.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes, more than none.
    pub(super) fn new(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).expect("mmap does not map address 0 unasked");
        let mapping = Self { start, len };
        // Huge pages would make each buffer's first byte cost 2 MiB. Kernels without them refuse: just as well.
        // SAFETY: the range is exactly the mapping made above.
        unsafe { libc::madvise(start.as_ptr().cast(), len, libc::MADV_NOHUGEPAGE) };
        Ok(mapping)
    }

    /// The address of the byte at `offset`, which must be inside.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.len, "an offset inside the mapping");
        // SAFETY: the offset was just checked; start..start+len is one mapping.
        unsafe { self.start.as_ptr().add(offset) }
    }

    /// The bytes of `range`.
    ///
    /// # Safety
    ///
    /// The kernel must not be using these bytes while the slice lives.
    pub(super) unsafe fn bytes_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        assert!(range.start < range.end && range.end <= self.len);
        // SAFETY: the range lies inside the mapping, which is initialized (zeroed) and lives as long as `self`; `&mut self`
        // keeps our own code out, the caller the kernel.
        unsafe { std::slice::from_raw_parts_mut(self.at(range.start), range.len()) }
    }

    /// Gives the memory up without unmapping it, for when the kernel may still be using it.
    pub(super) fn leak(&mut self) {
        self.len = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: this is the mapping made in `new`, and nothing borrows from it any more.
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
    fn mapped_memory_is_zeroed_and_writable() {
        let mut mapping = Mapping::new(10_000).unwrap();
        // SAFETY: the kernel does not know this mapping.
        let bytes = unsafe { mapping.bytes_mut(5_000..10_000) };
        assert!(bytes.iter().all(|b| *b == 0));
        bytes[4_999] = 1;
        assert_eq!(mapping.at(0) as usize % 4096, 0);
    }
}
