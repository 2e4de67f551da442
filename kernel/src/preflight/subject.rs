//! A loaded livepatch as the rules of coexistence see it. No IO.

use livepatch_module::conflict::{FunctionRef, LoadedView, Owner};

use crate::state::Livepatch;

/// What the kernel alone tells about a loaded livepatch: neither states nor callbacks, and functions only while no
/// transition makes their list wrong.
pub fn view(livepatch: &Livepatch, owner: Owner) -> LoadedView {
    let functions = livepatch.objects.iter().flat_map(|object| {
        object
            .functions
            .iter()
            .map(|function| FunctionRef::new(&object.name, &function.name, function.position))
    });
    LoadedView {
        module: livepatch.name.clone(),
        sha256: None,
        owner,
        replace: livepatch.replace,
        functions: livepatch.functions_reliable.then(|| functions.collect()),
        states: None,
        callbacks: None,
        shadow_variables: None,
    }
}
