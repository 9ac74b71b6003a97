//! Files of rules, as the console of the original exports and imports them: a bare
//! list of permissions as JSON, or the same names as columns of CSV.

use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use serde_json::{Map, Value};

/// Rules of one import.
pub const MOST: usize = 200;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A list of permissions.
    Json,
    /// A line for each.
    Csv,
}

/// Columns, in their order.
const COLUMNS: &[&str] = &[
    "SecurityGroupRuleId",
    "Direction",
    "Policy",
    "Priority",
    "IpProtocol",
    "PortRange",
    "SourcePortRange",
    "PortRangeListId",
    "PortRangeListName",
    "SourceCidrIp",
    "Ipv6SourceCidrIp",
    "SourceGroupId",
    "SourceGroupName",
    "SourceGroupOwnerAccount",
    "SourcePrefixListId",
    "SourcePrefixListName",
    "DestCidrIp",
    "Ipv6DestCidrIp",
    "DestGroupId",
    "DestGroupName",
    "DestGroupOwnerAccount",
    "DestPrefixListId",
    "DestPrefixListName",
    "NicType",
    "Description",
    "CreateTime",
];

/// The region that rules come from, and who says so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Region {
    /// Its id.
    pub id: String,
    /// The file's name, as nothing in the file does.
    pub by_name: bool,
}

/// Where a file may say its region: beside its list, or in each rule.
const REGION: &str = "RegionId";

/// A rule of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Where it stands: line of CSV, number in JSON.
    pub line: usize,
    /// Its fields.
    pub rule: Value,
    /// Why it cannot be read.
    pub problem: Option<String>,
    /// Where it comes from, if that is said.
    pub region: Option<Region>,
}

impl Item {
    /// Takes what the rule itself says of its region out of it.
    fn new(line: usize, mut rule: Value, broken: Option<String>, file: Option<&Region>) -> Self {
        let own = rule.as_object_mut().and_then(|fields| fields.remove(REGION));
        let own = own.as_ref().and_then(Value::as_str).filter(|id| !id.is_empty());
        let region = own.map(|id| Region { id: id.to_owned(), by_name: false }).or_else(|| file.cloned());
        Self { line, problem: broken.or_else(|| shape(&rule)), rule, region }
    }
}

/// A rule's priority: a number, or a text that is one; 1 when it has none.
pub fn priority(rule: &Value) -> Option<u64> {
    match &rule["Priority"] {
        Value::Number(n) => n.as_u64(),
        Value::String(text) if !text.is_empty() => text.parse().ok(),
        _ => Some(1),
    }
}

/// Writes rules.
///
/// # Errors
/// None that a list of rules has.
pub fn write(rules: &[Value], format: Format) -> Result<Vec<u8>> {
    if format == Format::Json {
        let mut bytes = serde_json::to_vec_pretty(rules)?;
        bytes.push(b'\n');
        return Ok(bytes);
    }
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(COLUMNS)?;
    for rule in rules {
        let field = |name: &&str| match &rule[*name] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        csv.write_record(COLUMNS.iter().map(field))?;
    }
    csv.into_inner().map_err(|e| anyhow::anyhow!("{e}"))
}

fn texts(bytes: &[u8], path: &Path) -> Result<String> {
    match String::from_utf8(bytes.to_vec()) {
        Ok(text) => Ok(text.trim_start_matches('\u{feff}').to_owned()),
        Err(e) => {
            let at = e.utf8_error().valid_up_to();
            let line = bytes[..at].iter().filter(|b| **b == b'\n').count() + 1;
            bail!("{}:{line}: not UTF-8; nothing was imported", path.display())
        }
    }
}

/// What is wrong with a rule's shape.
fn shape(rule: &Value) -> Option<String> {
    let Some(fields) = rule.as_object() else { return Some("not a rule".into()) };
    if let Some(unknown) = fields.keys().find(|k| !COLUMNS.contains(&k.as_str())) {
        return Some(format!("unknown field {unknown:?}"));
    }
    match rule["Direction"].as_str() {
        Some("ingress" | "egress") => None,
        _ => Some("Direction is ingress or egress".into()),
    }
}

/// Reads a file of either kind.
///
/// # Errors
/// A file that cannot be read, that is no UTF-8, or whose first lines say that it is something else.
pub fn read(path: &Path) -> Result<Vec<Item>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = texts(&bytes, path)?;
    let by_name = region(path).map(|id| Region { id, by_name: true });
    if text.trim_start().starts_with(['[', '{']) {
        let none = || format!("{} is no list of rules; nothing was imported", path.display());
        let file: Value = serde_json::from_str(&text).with_context(none)?;
        let said = file[REGION].as_str().filter(|id| !id.is_empty());
        let region = said.map(|id| Region { id: id.to_owned(), by_name: false }).or(by_name);
        // Bare, as the console exports it; or as a listing of the API has it.
        let lists = [&file, &file["Permissions"], &file["Permissions"]["Permission"]];
        let rules = lists.into_iter().find_map(Value::as_array).with_context(none)?;
        let item = |(i, rule): (usize, &Value)| Item::new(i + 1, rule.clone(), None, region.as_ref());
        return Ok(rules.iter().enumerate().map(item).collect());
    }
    let mut csv = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let head: Vec<String> = csv.headers()?.iter().map(|h| h.trim().to_owned()).collect();
    if let Some(unknown) = head.iter().find(|h| !COLUMNS.contains(&h.as_str()) && *h != REGION) {
        bail!("{}:1: unknown column {unknown:?}; the columns are {}", path.display(), COLUMNS.join(", "));
    }
    let mut items = Vec::new();
    for record in csv.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, |p| p.line() as usize);
                let problem = (record.len() != head.len())
                    .then(|| format!("{} fields, the first line has {}", record.len(), head.len()));
                let fields: Map<String, Value> =
                    head.iter().zip(record.iter()).map(|(h, v)| (h.clone(), Value::from(v))).collect();
                items.push(Item::new(line, Value::Object(fields), problem, by_name.as_ref()));
            }
            Err(e) => {
                let line = e.position().map_or(0, |p| p.line() as usize);
                items.push(Item::new(line, Value::Object(Map::new()), Some(e.to_string()), by_name.as_ref()));
            }
        }
    }
    Ok(items)
}

/// What a file is called.
pub fn name(region: &str, group: &str, format: Format, day: &str) -> String {
    match format {
        Format::Json => format!("ecs_{region}_{group}.json"),
        Format::Csv => format!("ecs_sgRule_{group}_{region}_{day}.csv"),
    }
}

/// The region that a file's name says its rules are of.
fn region(path: &Path) -> Option<String> {
    let name = path.file_stem()?.to_str()?.strip_prefix("ecs_")?;
    match name.strip_prefix("sgRule_") {
        Some(rest) => rest.split('_').nth(1).map(str::to_owned),
        None => name.split_once("_sg-").map(|(region, _)| region.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("sg-rules-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn what_is_written_reads_as_the_same() {
        let rule = json!({"Direction": "ingress", "Policy": "Accept", "Priority": 1, "IpProtocol": "TCP",
            "PortRange": "22/22", "SourceCidrIp": "10.0.0.0/8", "Description": "a, \"b\"\nc"});
        for format in [Format::Json, Format::Csv] {
            let path = file(
                &name("local", "sg-1", format, "2026-01-02"),
                &write(std::slice::from_ref(&rule), format).unwrap(),
            );
            let items = read(&path).unwrap();
            assert_eq!(items.len(), 1);
            assert_eq!((items[0].problem.clone(), priority(&items[0].rule)), (None, Some(1)));
            for field in ["Direction", "Policy", "PortRange", "SourceCidrIp", "Description"] {
                assert_eq!(items[0].rule[field], rule[field], "{format:?} {field}");
            }
            assert_eq!(items[0].region, Some(Region { id: "local".into(), by_name: true }));
            std::fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn what_a_file_says_of_its_region_counts_more_than_its_name() {
        let rule = json!({"Direction": "ingress", "IpProtocol": "TCP"});
        let own = json!({"Direction": "egress", "IpProtocol": "TCP", "RegionId": "cn-beijing"});
        let whole = json!({"RegionId": "cn-hangzhou", "Permissions": {"Permission": [rule, own]}});
        let regions = |file: &std::path::Path| -> Vec<String> {
            let items = read(file).unwrap();
            assert!(items.iter().all(|i| i.problem.is_none() && i.rule[REGION].is_null()), "{items:?}");
            let say = |r: Region| format!("{} {}", r.id, if r.by_name { "name" } else { "file" });
            items.into_iter().map(|i| i.region.map_or_else(String::new, say)).collect()
        };
        let named = file("ecs_local_sg-1.json", whole.to_string().as_bytes());
        assert_eq!(regions(&named), ["cn-hangzhou file", "cn-beijing file"]);
        let bare = file("ecs_local_sg-2.json", json!([rule, own]).to_string().as_bytes());
        assert_eq!(regions(&bare), ["local name", "cn-beijing file"]);
        let bare = file("rules.json", json!([rule]).to_string().as_bytes());
        assert_eq!(regions(&bare), [""]);
        let csv = b"Direction,RegionId\ningress,cn-beijing\ningress,\n";
        assert_eq!(regions(&file("ecs_sgRule_sg-1_local_2026-01-02.csv", csv)), ["cn-beijing file", "local name"]);
        assert!(read(&file("other.json", b"{\"a\": 1}")).unwrap_err().to_string().contains("is no list of rules"));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        let path = file("a.csv", b"Direction,PortRange\ningress,22/22\ningress\nupward,1/1\n");
        let items = read(&path).unwrap();
        let problems: Vec<_> = items.iter().map(|i| (i.line, i.problem.is_some())).collect();
        assert_eq!(problems, [(2, false), (3, true), (4, true)]);
        let path = file("b.csv", b"Direction,Port\ningress,22\n");
        assert!(read(&path).unwrap_err().to_string().contains("b.csv:1: unknown column \"Port\""));
        let path = file("c.csv", b"Direction\ningress\n\xff\n");
        assert!(read(&path).unwrap_err().to_string().contains("c.csv:3: not UTF-8"));
        let path = file("d.json", b"[1, {\"Direction\": \"ingress\"}]");
        assert_eq!(read(&path).unwrap().iter().filter(|i| i.problem.is_some()).count(), 1);
    }
}
