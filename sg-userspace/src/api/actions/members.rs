//! Who is in a group: what joins it and leaves it.

use std::collections::BTreeSet;

use serde_json::Map;

use super::{
    common::Answer,
    instances::{instance_id, primary},
};
use crate::{
    api::{
        draft::Draft,
        error::{self, ApiError, Kind},
        params::Params,
    },
    document::Text,
};

/// Which errors a way of changing groups has.
pub struct Says {
    too_many: Kind,
    types: Kind,
    vpcs: Kind,
}

const JOIN: Says = Says { too_many: error::JOIN_TOO_MANY, types: error::JOIN_TYPES, vpcs: error::JOIN_VPC };
const JOIN_INTERFACE: Says =
    Says { too_many: error::JOIN_TOO_MANY, types: error::INTERFACE_TYPES, vpcs: error::JOIN_VPC_INTERFACE };
pub const INTERFACE: Says =
    Says { too_many: error::GROUPS_OF_INTERFACE, types: error::INTERFACE_TYPES, vpcs: error::JOIN_VPC_INTERFACE };
pub const INSTANCE: Says =
    Says { too_many: error::GROUPS_OF_INTERFACE, types: error::INSTANCE_TYPES, vpcs: error::INSTANCE_VPCS };

/// Refuses groups that one interface, which is in `had` of them now, cannot be in together.
/// One that a stricter limit finds in too many may still be in fewer.
pub fn compatible(draft: &Draft<'_>, groups: &[usize], had: usize, says: &Says) -> Result<(), ApiError> {
    let limit = draft.here.quotas.groups_per_interface;
    if groups.len() > limit.max(had) {
        return Err(says.too_many.because(&format!("({} groups, the limit is {limit})", groups.len())));
    }
    let Some((&first, rest)) = groups.split_first() else { return Ok(()) };
    if rest.iter().any(|&g| draft.vpc_of(g) != draft.vpc_of(first)) {
        return Err(says.vpcs.into());
    }
    if rest.iter().any(|&g| draft.is_enterprise(g) != draft.is_enterprise(first)) {
        return Err(says.types.into());
    }
    Ok(())
}

/// Puts an interface in other groups.
///
/// # Errors
/// [`error::MANAGED`]: it would leave a group that is not the caller's to change.
pub fn put(draft: &mut Draft<'_>, interface: usize, groups: &[usize]) -> Result<(), ApiError> {
    for left in draft.groups_of(interface).into_iter().filter(|g| !groups.contains(g)) {
        draft.not_managed(left)?;
    }
    let ids = groups.iter().map(|&g| Text::from(draft.names.groups.ids[g].as_str())).collect();
    draft.interface_mut(interface).security_group_ids = ids;
    Ok(())
}

/// What Join and Leave are about: an interface, and whether it was named as an instance.
fn target(draft: &Draft<'_>, p: &Params) -> Result<(usize, bool), ApiError> {
    match (p.get("InstanceId"), p.get("NetworkInterfaceId")) {
        (None, Some(id)) => Ok((draft.interface(id).ok_or(error::INTERFACE_NOT_FOUND)?, false)),
        (id, _) => Ok((primary(draft, id.unwrap_or_default())?, true)),
    }
}

/// Whether a text can be an id at all. Documents may call things otherwise, so this
/// is asked of what nothing is called.
pub fn can_be_id(id: &str) -> bool {
    id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic())
}

/// What Join and Leave need of their parameters before anybody looks for what they name.
fn joins(draft: &Draft<'_>, p: &Params) -> Result<(), ApiError> {
    p.get("SecurityGroupId").ok_or(error::GROUP_ID_MISSING)?;
    match (instance_id(draft, p)?, p.get("NetworkInterfaceId")) {
        (Some(_), Some(_)) => Err(error::JOIN_BOTH.into()),
        (None, None) => Err(error::JOIN_WHAT.into()),
        (None, Some(_)) if draft.account.is_some() && p.get("RegionId").is_none() => Err(error::REGION_MISSING.into()),
        (None, Some(id)) if !can_be_id(id) && draft.interface(id).is_none() => {
            Err(error::INTERFACE_ID.of("NetworkInterfaceId"))
        }
        _ => Ok(()),
    }
}

pub fn join(draft: &mut Draft<'_>, p: &Params) -> Answer {
    joins(draft, p)?;
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let (interface, by_instance) = target(draft, p)?;
    let mut groups = draft.groups_of(interface);
    if groups.contains(&group) {
        return Err(error::ALREADY_MEMBER.into());
    }
    groups.push(group);
    compatible(draft, &groups, groups.len() - 1, if by_instance { &JOIN } else { &JOIN_INTERFACE })?;
    put(draft, interface, &groups)?;
    Ok(Map::new())
}

pub fn leave(draft: &mut Draft<'_>, p: &Params) -> Answer {
    joins(draft, p)?;
    let group = draft.changeable_group(p.get("SecurityGroupId"))?;
    let (interface, by_instance) = target(draft, p)?;
    let mut groups = draft.groups_of(interface);
    if !groups.contains(&group) {
        return Err(error::NOT_A_MEMBER.into());
    }
    if groups.len() == 1 {
        let kind = if by_instance { error::LAST_GROUP_OF_INSTANCE } else { error::LAST_GROUP_OF_INTERFACE };
        return Err(kind.into());
    }
    groups.retain(|&g| g != group);
    put(draft, interface, &groups)?;
    Ok(Map::new())
}

/// The group ids that a call names, each once.
pub fn group_ids<'p>(p: &'p Params, field: &str) -> Result<Vec<&'p str>, ApiError> {
    let ids = p.list(field).map_err(|name| error::UNREADABLE.of(&name))?;
    if ids.iter().collect::<BTreeSet<_>>().len() < ids.len() {
        return Err(error::GROUP_ID_TWICE.into());
    }
    Ok(ids)
}

/// The groups of these ids, all of them the caller's to use.
pub fn named(draft: &Draft<'_>, ids: &[&str]) -> Result<Vec<usize>, ApiError> {
    ids.iter().map(|id| draft.changeable_group(Some(id))).collect()
}
