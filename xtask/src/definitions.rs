//! The custom resource definitions as templates of the chart.
//!
//! No IO.

use anyhow::{Context, Result};

use crate::generate::Generated;

/// Among the chart's templates, because Helm never upgrades what is in a chart's `crds/`.
const FOLDER: &str = "charts/livepatch-operator/templates/crds";

/// One file for each definition.
pub fn files() -> Result<Vec<Generated>> {
    livepatch_crds::definitions()
        .into_iter()
        .map(|definition| {
            let plural = &definition.spec.names.plural;
            let yaml = serde_saphyr::to_string(&definition).with_context(|| format!("serialise {plural}"))?;
            Ok(Generated {
                path: format!("{FOLDER}/{plural}.yaml"),
                content: template(&yaml)?,
            })
        })
        .collect()
}

/// A definition as a template: an upgrade of the chart updates it, and uninstalling the chart leaves it and with it every
/// object of its kind.
fn template(yaml: &str) -> Result<String> {
    const METADATA: &str = "metadata:\n";
    let (head, tail) = yaml
        .split_once(METADATA)
        .context("a definition without metadata: what kube generates has changed")?;
    let (head, tail) = (literal(head), literal(tail));
    Ok(format!(
        "{{{{- /* Generated from the crate livepatch-crds by cargo xtask generate. Do not edit. */ -}}}}\n\
         {{{{- if .Values.crds.install }}}}\n\
         {head}{METADATA}  annotations:\n    helm.sh/resource-policy: keep\n{tail}\
         {{{{- end }}}}\n"
    ))
}

/// Text in which Helm finds no template.
fn literal(text: &str) -> String {
    text.replace("{{", "{{ \"{{\" }}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_yaml_says_what_the_types_say() {
        for definition in livepatch_crds::definitions() {
            let yaml = serde_saphyr::to_string(&definition).unwrap();
            let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(read, serde_json::to_value(&definition).unwrap());
        }
    }

    #[test]
    fn braces_in_a_description_are_no_template() {
        assert_eq!(literal("a {{ b }} c"), "a {{ \"{{\" }} b }} c");
    }

    #[test]
    fn a_definition_is_kept_when_the_chart_goes() {
        let text = template("kind: X\nmetadata:\n  name: x\nspec: {}\n").unwrap();
        assert!(
            text.contains("kind: X\nmetadata:\n  annotations:\n    helm.sh/resource-policy: keep\n  name: x\n"),
            "{text}"
        );
        assert!(template("kind: X\n").is_err());
    }
}
