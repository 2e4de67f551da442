//! System calls that nix does not offer: the only unsafe code of this crate.

use nix::errno::Errno;
use nix::libc;

/// `SYSLOG_ACTION_READ_ALL`: the last bytes of the kernel log, without consuming them (include/linux/syslog.h).
const READ_ALL: libc::c_int = 3;

/// `SYSLOG_ACTION_SIZE_BUFFER` (include/linux/syslog.h).
const SIZE_BUFFER: libc::c_int = 10;

/// The kernel log as text, at most so many bytes of its end, in whole records. Needs `CAP_SYSLOG`, except where
/// `kernel.dmesg_restrict` is 0.
pub(super) fn kernel_log(limit: usize) -> Result<String, Errno> {
    // SAFETY: this action takes no buffer; a null pointer with length 0 is what the manual says to pass.
    let size = unsafe { libc::klogctl(SIZE_BUFFER, std::ptr::null_mut(), 0) };
    let size = usize::try_from(Errno::result(size)?).unwrap_or(0).min(limit);
    let mut buffer = vec![0_u8; size];
    let length = libc::c_int::try_from(size).unwrap_or(libc::c_int::MAX);
    // SAFETY: the buffer is valid for writes of `length` bytes, which is its own length, and stays
    // alive and unshared during the call.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    buffer.truncate(usize::try_from(Errno::result(read)?).unwrap_or(0));
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}
