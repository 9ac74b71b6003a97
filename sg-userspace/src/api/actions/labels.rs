//! Tags and resource groups, regions, VPCs and VSwitches.

use std::collections::BTreeMap;

use serde_json::{Map, json};

use super::{
    common::{self, Answer},
    instances,
};
use crate::{
    api::{
        draft::{Draft, vswitch_of},
        error::{self, ApiError},
        page::{Sizes, page},
        params::Params,
    },
    document::{List, Tag, Text},
    validate::names::DEFAULT_VPC,
};

/// Something that has labels.
enum Resource {
    Group(usize),
    PrefixList(usize),
    PortList(usize),
    /// Its labels are kept beside the documents.
    Other(String),
}

/// The kinds of resources, as clients name them.
const TYPES: [(&str, &str); 5] =
    [("securitygroup", "sg"), ("prefixlist", "pl"), ("portrangelist", "prl"), ("eni", "eni"), ("instance", "i")];

fn kind(p: &Params) -> Result<&'static str, ApiError> {
    let wanted = p.get("ResourceType").unwrap_or_default().to_ascii_lowercase().replace(['-', '_'], "");
    TYPES.iter().find(|(name, _)| *name == wanted).map(|(name, _)| *name).ok_or(error::RESOURCE_TYPE.into())
}

fn resource(draft: &Draft<'_>, kind: &str, id: &str) -> Result<Resource, ApiError> {
    let missing = || error::RESOURCE_NOT_FOUND.of(id);
    let seen = |known: &str| draft.sees(known);
    match kind {
        "securitygroup" => draft.group(id).map(Resource::Group).ok_or_else(missing),
        "prefixlist" => {
            let i = draft.prefix_list(id).filter(|&i| seen(&draft.names.prefix_lists.ids[i]));
            i.map(Resource::PrefixList).ok_or_else(missing)
        }
        "portrangelist" => {
            let i = draft.port_list(id).filter(|&i| seen(&draft.names.port_lists.ids[i]));
            i.map(Resource::PortList).ok_or_else(missing)
        }
        "eni" => {
            let i = draft.interface(id).ok_or_else(missing)?;
            Ok(Resource::Other(draft.names.interfaces.ids[i].clone()))
        }
        _ => {
            let known = instances::instance_ids(draft).iter().any(|known| known == id);
            known.then(|| Resource::Other(id.to_owned())).ok_or_else(missing)
        }
    }
}

fn labels(draft: &Draft<'_>, resource: &Resource) -> BTreeMap<String, String> {
    match resource {
        Resource::Group(i) => common::texts(&draft.group_at(*i).tags),
        Resource::PrefixList(i) => common::texts(&draft.prefix_list_at(*i).tags),
        Resource::PortList(i) => common::texts(&draft.port_list_at(*i).tags),
        Resource::Other(id) => draft.tags(id),
    }
}

fn put(draft: &mut Draft<'_>, resource: &Resource, tags: BTreeMap<String, String>) {
    let list: List<Tag> = common::labels(tags.clone());
    match resource {
        Resource::Group(i) => draft.group_mut(*i).tags = list,
        Resource::PrefixList(i) => draft.prefix_list_mut(*i).tags = list,
        Resource::PortList(i) => draft.port_list_mut(*i).tags = list,
        Resource::Other(id) => draft.fact_mut(id).tags = tags,
    }
}

/// The resources that a call names: 1 to 50.
fn named(draft: &Draft<'_>, p: &Params) -> Result<Vec<Resource>, ApiError> {
    let kind = kind(p)?;
    let ids = p.list("ResourceId").map_err(|name| error::UNREADABLE.of(&name))?;
    if ids.is_empty() || ids.len() > 50 {
        return Err(error::UNREADABLE.of("ResourceId"));
    }
    ids.into_iter().map(|id| resource(draft, kind, id)).collect()
}

pub fn tag(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let tags = common::tags(p)?;
    if tags.is_empty() {
        return Err(error::TAG_KEY.into());
    }
    for resource in named(draft, p)? {
        let mut all = labels(draft, &resource);
        all.extend(tags.clone());
        if all.len() > 20 {
            return Err(error::TAG_QUOTA.into());
        }
        put(draft, &resource, all);
    }
    Ok(Map::new())
}

pub fn untag(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let keys = p.list("TagKey").map_err(|name| error::UNREADABLE.of(&name))?;
    let everything = keys.is_empty() && p.get("All").is_some_and(|v| v.eq_ignore_ascii_case("true"));
    if keys.is_empty() && !everything {
        return Err(error::NOT_SIGNED.of("TagKey"));
    }
    let keys: Vec<String> = keys.into_iter().map(str::to_owned).collect();
    for resource in named(draft, p)? {
        let mut all = labels(draft, &resource);
        all.retain(|key, _| !everything && !keys.contains(key));
        put(draft, &resource, all);
    }
    Ok(Map::new())
}

/// What a `TagFilter.N` asks of a resource's labels: one whose key and value are like these.
struct Filter {
    key: String,
    /// Any when there are none.
    values: Vec<String>,
}

impl Filter {
    fn takes(&self, tags: &BTreeMap<String, String>) -> bool {
        // "Fuzzy", as the documentation has it: with a `*` it is a pattern, else a part will do.
        let like = |text: &str, wanted: &String| {
            if wanted.contains('*') { common::called(text, wanted) } else { text.contains(wanted.as_str()) }
        };
        tags.iter().any(|(key, value)| {
            like(key, &self.key) && (self.values.is_empty() || self.values.iter().any(|wanted| like(value, wanted)))
        })
    }
}

/// `TagFilter.N.TagKey` with `TagFilter.N.TagValues.M`, all of which must be met.
fn filters(p: &Params) -> Result<Vec<Filter>, ApiError> {
    let records = p.records("TagFilter").map_err(|name| error::UNREADABLE.of(&name))?;
    let filter = |(n, record): (usize, Params)| {
        let key = record.get("TagKey").ok_or_else(|| error::UNREADABLE.of(&format!("TagFilter.{n}.TagKey")))?;
        let values = record.list("TagValues").map_err(|name| error::UNREADABLE.of(&format!("TagFilter.{n}.{name}")))?;
        Ok(Filter { key: key.to_owned(), values: values.into_iter().map(str::to_owned).collect() })
    };
    records.into_iter().map(filter).collect()
}

pub fn list(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let kind = kind(p)?;
    let ids = p.list("ResourceId").map_err(|name| error::UNREADABLE.of(&name))?;
    let (wanted, filters) = (common::tags(p)?, filters(p)?);
    let all: Vec<String> = match kind {
        "securitygroup" => draft.names.groups.ids.clone(),
        "prefixlist" => draft.names.prefix_lists.ids.clone(),
        "portrangelist" => draft.names.port_lists.ids.clone(),
        "eni" => draft.names.interfaces.ids.clone(),
        _ => instances::instance_ids(draft),
    };
    let mut items = Vec::new();
    for id in all.iter().filter(|id| ids.is_empty() || ids.contains(&id.as_str())) {
        let Ok(resource) = resource(draft, kind, id) else { continue };
        let tags = labels(draft, &resource);
        if common::has_labels(&tags, &wanted) && filters.iter().all(|filter| filter.takes(&tags)) {
            items.extend(tags.iter().map(|(k, v)| {
                let item = json!({"ResourceId": id, "ResourceType": kind, "TagKey": k, "TagValue": v});
                (format!("{id} {k}"), item)
            }));
        }
    }
    let mut answer = Map::new();
    let items =
        page(items, false, Sizes { default: 50, least: 50, most: 50, clamped: true, numbered: false }, p, &mut answer)?;
    answer.insert("TagResources".into(), json!({"TagResource": items}));
    Ok(answer)
}

pub fn join_resource_group(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let id = p.get("ResourceId").ok_or_else(|| error::NOT_SIGNED.of("ResourceId"))?;
    let kind = kind(p)?;
    let label = common::resource_group(p)?.ok_or_else(|| error::NOT_SIGNED.of("ResourceGroupId"))?;
    let label = label.as_str();
    match resource(draft, kind, id)? {
        Resource::Group(i) => draft.group_mut(i).resource_group_id = Some(Text::from(label)),
        Resource::PrefixList(i) => {
            let id = draft.names.prefix_lists.ids[i].clone();
            draft.fact_mut(&id).resource_group = Some(label.to_owned());
        }
        Resource::PortList(i) => {
            let id = draft.names.port_lists.ids[i].clone();
            draft.fact_mut(&id).resource_group = Some(label.to_owned());
        }
        Resource::Other(id) => draft.fact_mut(&id).resource_group = Some(label.to_owned()),
    }
    Ok(Map::new())
}

pub fn regions(draft: &mut Draft<'_>, _p: &Params) -> Answer {
    let region = json!({"RegionId": draft.here.region, "LocalName": draft.here.region, "RegionEndpoint": "",
        "Status": "available"});
    Ok(Map::from_iter([("Regions".to_owned(), json!({"Region": [region]}))]))
}

/// Whether a VPC, or its VSwitch, is what `IsDefault` asks for.
fn is_default(p: &Params, vpc: &str) -> bool {
    p.get("IsDefault").is_none_or(|v| v.eq_ignore_ascii_case("true") == (vpc == DEFAULT_VPC))
}

/// Pages of VPCs and VSwitches.
const NETWORKS: Sizes = Sizes { default: 10, least: 1, most: 50, clamped: true, numbered: true };

pub fn vpcs(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let wanted = |id: &&str| p.get("VpcId").is_none_or(|w| w.split(',').any(|w| w == *id)) && is_default(p, id);
    let items = draft.vpcs().filter(wanted).map(|id| {
        let item = json!({
            "VpcId": id,
            "VpcName": id,
            "RegionId": draft.here.region,
            "Description": "",
            "Status": "Available",
            "CidrBlock": "",
            "IsDefault": id == DEFAULT_VPC,
            "VSwitchIds": {"VSwitchId": [vswitch_of(id)]},
        });
        (id.to_owned(), item)
    });
    let mut answer = Map::new();
    let items = page(items.collect(), false, NETWORKS, p, &mut answer)?;
    answer.insert("Vpcs".into(), json!({"Vpc": items}));
    Ok(answer)
}

pub fn vswitches(draft: &mut Draft<'_>, p: &Params) -> Answer {
    let is = |name: &str, value: &str| common::is(p, name, value);
    let found = draft.vpcs().map(|vpc| (vswitch_of(vpc), vpc)).filter(|(id, vpc)| {
        is("VpcId", vpc) && is("VSwitchId", id) && is("ZoneId", &draft.here.region) && is_default(p, vpc)
    });
    let items = found.map(|(id, vpc)| {
        let item = json!({
            "VSwitchId": id,
            "VSwitchName": id,
            "VpcId": vpc,
            "ZoneId": draft.here.region,
            "Description": "",
            "Status": "Available",
            "CidrBlock": "",
            "IsDefault": vpc == DEFAULT_VPC,
        });
        (id, item)
    });
    let mut answer = Map::new();
    let items = page(items.collect(), false, NETWORKS, p, &mut answer)?;
    answer.insert("VSwitches".into(), json!({"VSwitch": items}));
    Ok(answer)
}
