//! Requests of the control API: whatever comes, it is a request or a refusal; a rule
//! that its syntax takes is a rule that a policy takes, and reads back as the same.

use crate::{
    api::{
        auth::{self, Fresh, Request},
        http,
        keys::Keys,
        params::Params,
        rule::{self, Form},
    },
    document::{Document, Group, Permission},
    model::Direction,
    validate::{Quotas, validate},
};

/// A policy of one rule.
fn policy(rule: Permission) -> Document {
    let group =
        Group { security_group_name: Some("g".into()), permissions: [rule].into_iter().collect(), ..Group::default() };
    Document { security_groups: [group].into_iter().collect(), ..Document::default() }
}

fn one(record: &Params, form: Form) {
    for direction in [Direction::Inbound, Direction::Outbound] {
        let Ok(rule) = rule::syntax(record, form, direction) else { continue };
        let refers = [
            &rule.source_group_id,
            &rule.dest_group_id,
            &rule.source_prefix_list_id,
            &rule.dest_prefix_list_id,
            &rule.port_range_list_id,
        ];
        if refers.iter().any(|r| r.is_some()) {
            continue;
        }
        if let Err(problems) = validate(&policy(rule.clone()), &Quotas::default()) {
            panic!("the syntax takes {record:?}, the policy does not: {problems}");
        }
    }
}

fn rules(request: &Request) {
    let parameters = request.parameters();
    let _ = (request.format(), parameters.list("SecurityGroupId"), parameters.records("Tag"));
    for (n, record) in parameters.records("Permissions").unwrap_or_default() {
        one(&record, Form::Listed(n));
    }
    one(&parameters, Form::Flat { revoke: false });
}

/// The target.
///
/// # Panics
/// What the module promises does not hold.
pub fn run(data: &[u8]) {
    if let Ok(Some((request, length, _))) = http::head(data) {
        assert!(length <= data.len(), "a head of {length} bytes in {}", data.len());
        let caller = auth::authenticate(&request, &Keys::default(), &mut Fresh::default(), 0, 1.0);
        assert!(caller.is_err(), "no key, and {caller:?} calls");
        rules(&request);
    }
    // The same bytes as a form: the way to the rules is shorter.
    let mut form = Request { method: "POST".into(), ..Request::default() };
    if http::decode(data, &mut form.form) {
        rules(&form);
    }
}
