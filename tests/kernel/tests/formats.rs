//! What `inspect` tells about a module of each format, against what a kernel shows once the module is loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use livepatch_module::{Inspection, ReplaceValue, inspect};
use livepatch_rig::kernel_vm::{self, Boot, GuestFile, KernelVmSpec};
use livepatch_rig::kernels::{Kernel, Series};
use livepatch_rig::modules;

/// Loads each module alone and prints its name, its functions and the replace flag, if the kernel shows one.
const SCRIPT: &str = "
settle() { while grep -qs 1 /sys/kernel/livepatch/*/transition; do sleep 0.2; done; }
for file in /modules/*.ko; do
    insmod $file 2>/dev/null || continue
    settle
    for livepatch in /sys/kernel/livepatch/*; do
        [ -d $livepatch ] || continue
        name=${livepatch##*/}
        echo \"loaded $name $(cat $livepatch/replace 2>/dev/null)\"
        for function in $livepatch/*/*,*; do [ -d $function ] && echo \"function $name ${function#$livepatch/}\"; done
        echo 0 > $livepatch/enabled
        settle
        while [ -d $livepatch ]; do sleep 0.1; done
        until rmmod $name 2>/dev/null; do sleep 0.1; done
    done
done
";

/// The livepatches among the built modules, by name.
fn inspections(folder: &Path) -> Result<BTreeMap<String, Inspection>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).context("list the built modules")? {
        let path = entry?.path();
        if let Ok(inspection) = inspect(&std::fs::read(&path)?) {
            found.insert(inspection.name.clone(), inspection);
        }
    }
    Ok(found)
}

fn functions(inspection: &Inspection) -> BTreeSet<String> {
    inspection
        .functions()
        .map(|(object, function)| format!("{object}/{},{}", function.name, function.position))
        .collect()
}

#[test]
fn inspect_tells_what_the_kernel_shows() {
    for series in Series::ALL {
        let kernel = Kernel::get(series).unwrap();
        let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../modules/formats");
        let folder = modules::build_from(&kernel, &sources).unwrap();
        let told = inspections(&folder).unwrap();
        let spec = KernelVmSpec {
            kernel: &kernel,
            files: GuestFile::folder("modules", &folder).unwrap(),
            command: ["sh", "-euc", SCRIPT].map(str::to_owned).to_vec(),
            deadline: Duration::from_mins(4),
            boot: Boot::default(),
        };
        let shown = kernel_vm::run(&spec).unwrap().success().unwrap();
        let mut loaded = BTreeMap::new();
        let mut patched: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
        for line in shown.lines() {
            match line.split(' ').collect::<Vec<_>>().as_slice() {
                ["loaded", name, replace] => {
                    loaded.insert(*name, *replace);
                }
                ["function", name, function] => {
                    patched.entry(name).or_default().insert((*function).to_owned());
                }
                _ => panic!("unexpected line: {line}"),
            }
        }
        let readable: Vec<&str> = told.keys().map(String::as_str).collect();
        let alone: Vec<&str> = loaded
            .keys()
            .copied()
            .filter(|name| *name != "fmt_static_two")
            .collect();
        assert_eq!(alone, readable, "on {series:?}");
        for (name, inspection) in &told {
            let expected = functions(inspection);
            assert_eq!(
                patched.get(name.as_str()).cloned().unwrap_or_default(),
                expected,
                "{name} on {series:?}"
            );
            let value = match loaded[name.as_str()] {
                // Kernels before 6.11 do not show the flag.
                "" => continue,
                "0" => ReplaceValue::False,
                _ => ReplaceValue::True,
            };
            let agrees = [value, ReplaceValue::Dynamic].contains(&inspection.replace.value);
            assert!(
                agrees,
                "{name} on {series:?}: {:?}, the kernel says {value}",
                inspection.replace
            );
        }
    }
}
