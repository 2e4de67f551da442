//! The calls that change the fake kernel, each with the checks of the real one in their order. No IO.

use std::collections::BTreeSet;

use nix::errno::Errno;

use super::model::{Loaded, Model, Patch, Transition};
use super::module::{FakeModule, FakeTask};
use crate::error::Call;
use crate::taints::Taints;

impl Model {
    /// The whole of `finit_module`.
    pub fn load(&mut self, image: &[u8]) -> Result<(), Errno> {
        self.fault(Call::FinitModule)?;
        if self.policy.modules_disabled.is(&true) {
            return Err(Errno::EPERM);
        }
        if self.policy.signature_enforced.is(&true) {
            self.log("Loading of unsigned module is rejected");
            return Err(Errno::EKEYREJECTED);
        }
        let found = self
            .images
            .iter()
            .find(|(bytes, _)| bytes == image)
            .map(|(_, module)| module.clone());
        let module = found.ok_or(Errno::ENOEXEC)?;
        if !module.vermagic_fits {
            self.log(&format!(
                "{}: version magic 'other UP ' should be 'this SMP '",
                module.name
            ));
            return Err(Errno::ENOEXEC);
        }
        if self.modules.contains_key(&module.name) {
            return Err(Errno::EEXIST);
        }
        self.taints.0 |= 1 << 12 | 1 << 13 | 1 << Taints::LIVEPATCH;
        self.enable(module)
    }

    /// `klp_enable_patch`, in its order of checks.
    fn enable(&mut self, module: FakeModule) -> Result<(), Errno> {
        if !self.states_fit(&module) {
            let line = format!(
                "livepatch: Livepatch patch ({}) is not compatible with the already installed livepatches.",
                module.name
            );
            self.log(&line);
            return Err(Errno::EINVAL);
        }
        if let Some(symbol) = &module.missing_symbol {
            let line = format!("livepatch: symbol '{symbol}' not found in symbol table");
            self.log(&line);
            return Err(Errno::EINVAL);
        }
        if self.transition.is_some() {
            return Err(Errno::EBUSY);
        }
        self.log(&format!("livepatch: enabling patch '{}'", module.name));
        let clash = if self.policy.ftrace_enabled.is(&false) {
            module.functions().next().map(|(_, f)| f.name.clone())
        } else {
            module
                .functions()
                .map(|(_, f)| f.name.clone())
                .find(|name| self.held.contains(name))
        };
        if let Some(errno) = module.pre_patch {
            self.log("livepatch: pre-patch callback failed for object 'vmlinux'");
            self.log(&format!("livepatch: failed to enable patch '{}'", module.name));
            return Err(errno);
        }
        if let Some(function) = clash {
            self.log(&format!(
                "livepatch: failed to register ftrace handler for function '{function}' (-16)"
            ));
            self.log("livepatch: failed to patch object 'vmlinux'");
            self.log(&format!("livepatch: failed to enable patch '{}'", module.name));
            return Err(Errno::EBUSY);
        }
        self.log(&format!("livepatch: '{}': starting patching transition", module.name));
        let loaded = Loaded {
            refcount: 1,
            livepatch: true,
            build_id: module.build_id.clone(),
        };
        self.modules.insert(module.name.clone(), loaded);
        let stuck = self.stuck_in(&module);
        let name = module.name.clone();
        self.patches.push(Patch {
            module,
            enabled: true,
            dying: false,
        });
        self.begin(name, true, stuck);
        Ok(())
    }

    /// Each state of each loaded livepatch: a newcomer without it must not replace, one with it must not lower it.
    fn states_fit(&self, newcomer: &FakeModule) -> bool {
        self.patches
            .iter()
            .filter(|patch| !patch.dying)
            .flat_map(|patch| &patch.module.states)
            .all(|(id, version)| match newcomer.states.iter().find(|(of, _)| of == id) {
                None => !newcomer.replace,
                Some((_, new)) => new >= version,
            })
    }

    /// A transition is held up by tasks that sleep in a function it touches; a replacing one touches all that is
    /// patched.
    fn stuck_in(&self, module: &FakeModule) -> BTreeSet<u32> {
        let touched = |name: &str| {
            module.has_function(name)
                || module.replace && self.patches.iter().any(|patch| patch.module.has_function(name))
        };
        let asleep = |task: &&FakeTask| task.until.is_none_or(|until| until > self.now);
        self.tasks
            .iter()
            .filter(asleep)
            .filter(|task| touched(&task.sleeps_in))
            .map(|task| task.pid)
            .collect()
    }

    fn begin(&mut self, patch: String, patching: bool, stuck: BTreeSet<u32>) {
        self.transition = Some(Transition {
            patch,
            patching,
            next_try: self.now + self.settle,
            stuck,
        });
    }

    /// A write to `enabled`.
    pub fn write_enabled(&mut self, name: &str, enabled: bool) -> Result<(), Errno> {
        self.fault(Call::WriteEnabled)?;
        match self.refuse_write.take() {
            Some((0, errno)) => return Err(errno),
            Some((writes, errno)) => self.refuse_write = Some((writes - 1, errno)),
            None => {}
        }
        if self.races > 0 && self.transition.as_ref().is_some_and(|t| t.patch == name) {
            self.races -= 1;
            self.raced.insert(name.to_owned());
            self.complete();
        }
        let Some(index) = self.patches.iter().position(|patch| patch.module.name == name) else {
            return Err(Errno::ENOENT);
        };
        if self.patches[index].enabled == enabled {
            return Err(Errno::EINVAL);
        }
        match &self.transition {
            Some(transition) if transition.patch == name => {
                // Who has not switched yet is where the reversed transition wants it; the others go back.
                let stuck = self
                    .tasks
                    .iter()
                    .filter(|task| task.until.is_none_or(|until| until > self.now))
                    .filter(|task| !transition.stuck.contains(&task.pid))
                    .filter(|task| self.patches[index].module.has_function(&task.sleeps_in))
                    .map(|task| task.pid)
                    .collect();
                self.patches[index].enabled = enabled;
                self.begin(name.to_owned(), enabled, stuck);
            }
            Some(_) if !enabled => return Err(Errno::EBUSY),
            _ if enabled => return Err(Errno::EINVAL),
            _ => {
                self.patches[index].enabled = false;
                let stuck = self.stuck_in(&self.patches[index].module.clone());
                self.log(&format!("livepatch: '{name}': starting unpatching transition"));
                self.begin(name.to_owned(), false, stuck);
            }
        }
        Ok(())
    }

    /// `delete_module` with `O_NONBLOCK`.
    pub fn delete(&mut self, name: &str) -> Result<(), Errno> {
        self.fault(Call::DeleteModule)?;
        match self.modules.get(name) {
            None => Err(Errno::ENOENT),
            Some(module) if module.refcount > 0 => Err(Errno::EAGAIN),
            Some(_) => {
                self.modules.remove(name);
                Ok(())
            }
        }
    }
}
