//! The registry: livepatches for every kernel build, good ones and bad ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use livepatch_agent::store::sha256_of;
use livepatch_kernel::{BuildId, FakeModule, Identity};
use livepatch_module::{Architecture, Format, Function, Inspection, Object, Replace, ReplaceValue};
use livepatch_planner::fleet::snapshot::{Described, ModuleView};

/// What a livepatch does to the kernel it is loaded into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Conduct {
    Good,
    /// The kernel refuses it.
    Refused,
    /// The kernel panics so long after.
    Panics(Duration),
    /// The kernel warns so long after.
    Warns(Duration),
}

/// A livepatch for one kernel build.
#[derive(Debug)]
pub(crate) struct Module {
    pub view: ModuleView,
    pub bytes: Arc<[u8]>,
    pub inspection: Inspection,
    pub fake: FakeModule,
    pub conduct: Conduct,
}

/// The registry.
#[derive(Debug, Default)]
pub(crate) struct Shelf {
    artefacts: BTreeMap<String, Arc<Vec<ModuleView>>>,
    modules: BTreeMap<String, Arc<Module>>,
    /// It does not answer until then.
    pub away_until: Duration,
    /// What it serves is damaged until then.
    pub damaged_until: Duration,
}

/// What a revision of a set contains.
#[derive(Clone, Debug)]
pub(crate) struct Revision<'a> {
    pub set: &'a str,
    pub number: usize,
    pub cumulative: bool,
    /// Kernel builds it has a module for, with what the module does there.
    pub builds: &'a [(usize, Conduct)],
}

/// A kernel build. Two of them have one release: they are told apart by build id alone.
pub(crate) fn identity(build: usize) -> Identity {
    let release = format!("6.{}.0-sim", 12 + build / 2);
    Identity {
        release,
        version: format!("#{build} SMP"),
        architecture: "x86_64".to_owned(),
        build_id: BuildId::from_bytes(&[0xb0 + u8::try_from(build).unwrap_or(0); 20]).ok(),
    }
}

impl Shelf {
    /// Where a revision is to be had.
    pub fn reference(set: &str, number: usize) -> String {
        let digest = sha256_of(format!("{set} {number}").as_bytes());
        format!("registry.example.com/livepatches/{set}@sha256:{digest}")
    }

    /// Puts a revision on the shelf.
    pub fn publish(&mut self, revision: &Revision<'_>) {
        let modules: Vec<Arc<Module>> = revision
            .builds
            .iter()
            .map(|(build, conduct)| Arc::new(module(revision, *build, *conduct)))
            .collect();
        let views = modules.iter().map(|module| module.view.clone()).collect();
        self.artefacts
            .insert(Self::reference(revision.set, revision.number), Arc::new(views));
        for module in modules {
            self.modules.insert(module.view.digest.clone(), module);
        }
    }

    pub fn artefact(&self, reference: &str) -> Option<Arc<Vec<ModuleView>>> {
        self.artefacts.get(reference).cloned()
    }

    pub fn module(&self, digest: &str) -> Option<&Arc<Module>> {
        self.modules.get(digest)
    }

    pub fn modules(&self) -> impl Iterator<Item = &Arc<Module>> {
        self.modules.values()
    }

    pub fn by_bytes(&self, bytes: &[u8]) -> Option<&Arc<Module>> {
        self.modules.values().find(|module| *module.bytes == *bytes)
    }
}

/// What a module file says, for those who cannot read ELF here: nobody made one.
fn module(revision: &Revision<'_>, build: usize, conduct: Conduct) -> Module {
    let Revision {
        set,
        number,
        cumulative,
        ..
    } = revision;
    let name = format!("{}_{number}_k{build}", set.replace('-', "_"));
    let kernel = identity(build);
    let functions: Vec<String> = (0..=*number).map(|n| format!("{set}_function_{n}")).collect();
    let bytes: Arc<[u8]> = format!("the livepatch {name}").into_bytes().into();
    let mut fake = FakeModule::new(&name, &functions.iter().map(String::as_str).collect::<Vec<_>>());
    fake.replace = *cumulative;
    fake.missing_symbol = (conduct == Conduct::Refused).then(|| "no_such_function".to_owned());
    let build_id = fake.build_id.clone().map(|id| id.to_string()).unwrap_or_default();
    let sha256 = sha256_of(&bytes);
    let inspection = Inspection {
        name: name.clone(),
        format: Format::Static,
        kernel_release: kernel.release.clone(),
        vermagic: format!("{} SMP ", kernel.release),
        architecture: Architecture::Amd64,
        build_id: Some(build_id.clone()),
        sha256: sha256.clone(),
        size: bytes.len() as u64,
        replace: Replace {
            value: if *cumulative {
                ReplaceValue::True
            } else {
                ReplaceValue::False
            },
            evidence: "made up".to_owned(),
        },
        objects: vec![Object {
            name: "vmlinux".to_owned(),
            functions: functions
                .iter()
                .map(|name| Function {
                    name: name.clone(),
                    position: 1,
                })
                .collect(),
            callbacks: Vec::new(),
        }],
        states: Vec::new(),
        shadow_variables: false,
        depends: Vec::new(),
        signature: None,
        license: Some("GPL".to_owned()),
    };
    Module {
        view: ModuleView {
            kernel_release: kernel.release,
            kernel_build_id: kernel.build_id.map(|id| id.to_string()),
            architecture: "amd64".to_owned(),
            name: name.clone(),
            repository: format!("registry.example.com/livepatches/{set}"),
            digest: format!("sha256:{}", sha256_of(format!("manifest of {name}").as_bytes())),
            sha256,
            build_id,
            described: Some(Arc::new(Described::new(inspection.clone()))),
        },
        bytes,
        inspection,
        fake,
        conduct,
    }
}
