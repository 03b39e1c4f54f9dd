//! Asks for memory ahead of its use.

/// Octets that processors fetch at a time.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Brings what lies at `place` nearer without waiting for it: the legs of a busy thread do not fit into the nearest
/// cache, and each packet is of another one.
#[inline]
pub fn fetch<T>(place: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE) {
        let line = std::ptr::from_ref(place).cast::<i8>().wrapping_add(offset);
        // SAFETY: a hint, which changes nothing and faults nowhere whatever it is given.
        unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line) };
    }
    // Elsewhere there is no stable way to ask.
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}
