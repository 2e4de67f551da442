//! Loading a module from a sealed memory file, and unloading one. System calls.
//!
//! The bytes that were checked are the bytes that are loaded: nobody can change a sealed file between the two. The
//! price is that `LoadPin` and IMA appraisal, which judge a module by the file system it comes from, refuse it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::thread;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::kmod::{DeleteModuleFlags, ModuleInitFlags, delete_module, finit_module};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Call, CallError};
use crate::seam::PendingLoad;

/// `MFD_NOEXEC_SEAL` (include/uapi/linux/memfd.h, since 6.3): without it newer kernels warn, or refuse where
/// `vm.memfd_noexec` is 2.
const MFD_NOEXEC_SEAL: u32 = 0x0008;

/// Begins the one `finit_module` call in a thread of its own.
pub(super) fn start(name: &str, image: &[u8], parameters: CString) -> Result<Box<dyn PendingLoad>, CallError> {
    let sealed = sealed_file(image).map_err(|errno| CallError::new(Call::MemfdCreate, name, errno))?;
    let (sender, answer) = sync_channel(1);
    thread::Builder::new()
        .name("finit_module".into())
        .spawn(move || {
            let result = finit_module(&sealed, &parameters, ModuleInitFlags::empty());
            // Nobody waits any more when the receiver is gone: the kernel's state says what happened.
            let _ = sender.send(result);
        })
        .map_err(|error| {
            let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
            CallError::new(Call::FinitModule, name, errno)
        })?;
    Ok(Box::new(Running {
        name: name.to_owned(),
        answer,
        result: None,
    }))
}

/// One `delete_module` that does not wait for references.
pub(super) fn delete(name: &str) -> Result<(), CallError> {
    let failed = |errno| CallError::new(Call::DeleteModule, name, errno);
    let text = CString::new(name).map_err(|_| failed(Errno::ENOENT))?;
    delete_module(&text, DeleteModuleFlags::O_NONBLOCK).map_err(failed)
}

struct Running {
    name: String,
    answer: Receiver<Result<(), Errno>>,
    result: Option<Result<(), Errno>>,
}

impl PendingLoad for Running {
    fn poll(&mut self) -> Option<Result<(), CallError>> {
        if self.result.is_none() {
            self.result = match self.answer.try_recv() {
                Ok(result) => Some(result),
                Err(TryRecvError::Empty) => None,
                // The thread cannot end without an answer, short of being killed with the process.
                Err(TryRecvError::Disconnected) => Some(Err(Errno::EINTR)),
            };
        }
        self.result
            .map(|result| result.map_err(|errno| CallError::new(Call::FinitModule, self.name.as_str(), errno)))
    }
}

fn sealed_file(image: &[u8]) -> Result<OwnedFd, Errno> {
    let fd = memory_file(c"livepatch")?;
    let mut file = File::from(fd);
    file.write_all(image)
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    let seals = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file.into())
}

fn memory_file(name: &CStr) -> Result<OwnedFd, Errno> {
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    match memfd_create(name, flags | MFdFlags::from_bits_retain(MFD_NOEXEC_SEAL)) {
        // Before 6.3 the flag is unknown.
        Err(Errno::EINVAL) => memfd_create(name, flags),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn a_sealed_file_cannot_be_changed() {
        let mut file = File::from(sealed_file(b"image").unwrap());
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(1).is_err());
        assert!(file.set_len(100).is_err());
        assert_eq!(
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::empty())),
            Err(Errno::EPERM)
        );
        let mut content = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut content).unwrap();
        assert_eq!(content, b"image");
    }
}
