//! Judging what endpoints reach on networks that keep them apart.

use std::sync::Arc;

use libnetwork_model::{Change, Endpoint, Mutation, Opening, SandboxId};

use crate::{
    Error,
    draft::{Desk, Draft, Subject, resolve},
};

impl Desk<'_> {
    pub(crate) fn set_openings(
        &mut self,
        id: &SandboxId,
        reference: &str,
        openings: &[Opening],
    ) -> Result<Draft, Error> {
        let sandbox = self.sandbox(id)?;
        let network = resolve(self.intent, reference)?;
        let before = self.endpoint_on(&sandbox, network)?;
        let after = Endpoint { openings: Opening::merged(openings), ..(*before).clone() };
        Ok(Draft {
            change: Change(vec![Mutation::PutEndpoint(Arc::new(after))]),
            subjects: [Subject::Endpoint(before.id.clone())].into(),
            undo: Some(Change(vec![Mutation::PutEndpoint(before)])),
            holds: vec![Subject::Sandbox(id.clone())],
            events: Vec::new(),
            about: Subject::Sandbox(id.clone()),
            object: format!("what container {} reaches on network {}", sandbox.name, network.name),
        })
    }
}
