//! `--user`, resolved by the files in the image, as Docker does.

use crate::RuntimeError;

/// The largest id that Docker accepts.
const LARGEST: u64 = i32::MAX as u64;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// With the primary group, in ascending order.
    pub(super) groups: Vec<u32>,
    pub(super) home: String,
}

struct Passwd<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: Vec<&'a str>,
}

/// `user` is `uid[:gid]` or `name[:group]` or a mixture; `passwd` and `group` are the files' contents, empty where
/// there is none; `additional` are further groups by name or number.
pub(super) fn resolve(
    user: &str,
    passwd: &str,
    group: &str,
    additional: &[String],
) -> Result<User, RuntimeError> {
    let users: Vec<Passwd<'_>> = passwd.lines().filter_map(parse_passwd).collect();
    let groups: Vec<Group<'_>> = group.lines().filter_map(parse_group).collect();
    let (user_part, group_part) = match user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (user, None),
    };
    let wanted = if user_part.is_empty() { "0" } else { user_part };
    let number = id(wanted)?;
    // A name comes before a number: a user may be called 1000.
    let entry = users
        .iter()
        .find(|entry| entry.name == wanted)
        .or_else(|| users.iter().find(|entry| Some(entry.uid) == number));
    let (uid, mut gid) = match (entry, number) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(RuntimeError::InvalidSpec(format!(
                "unable to find user {wanted}: no matching entries in passwd file"
            )));
        }
    };
    let mut all = Vec::new();
    match group_part {
        Some(wanted) => gid = find_group(&groups, wanted)?,
        // A group that was asked for is the only one.
        None => {
            if let Some(entry) = entry {
                all.extend(groups.iter().filter(|g| g.members.contains(&entry.name)).map(|g| g.gid));
            }
        }
    }
    all.push(gid);
    for wanted in additional {
        all.push(find_group(&groups, wanted)?);
    }
    all.sort_unstable();
    all.dedup();
    let home = entry.map(|entry| entry.home).filter(|home| !home.is_empty()).unwrap_or("/").to_owned();
    Ok(User { uid, gid, groups: all, home })
}

fn find_group(groups: &[Group<'_>], wanted: &str) -> Result<u32, RuntimeError> {
    if let Some(group) = groups.iter().find(|group| group.name == wanted) {
        return Ok(group.gid);
    }
    id(wanted)?.ok_or_else(|| {
        RuntimeError::InvalidSpec(format!("unable to find group {wanted}: no matching entries in group file"))
    })
}

fn id(text: &str) -> Result<Option<u32>, RuntimeError> {
    match text.parse::<i64>() {
        Ok(number) if (0..=LARGEST as i64).contains(&number) => Ok(Some(number as u32)),
        Ok(_) => Err(RuntimeError::InvalidSpec(format!("uids and gids must be in range 0-{LARGEST}"))),
        Err(_) => Ok(None),
    }
}

fn parse_passwd(line: &str) -> Option<Passwd<'_>> {
    let mut fields = line.trim().split(':');
    let (name, _) = (fields.next()?, fields.next()?);
    let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Passwd { name, uid, gid, home: fields.nth(1).unwrap_or("") })
}

fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.trim().split(':');
    let (name, _) = (fields.next()?, fields.next()?);
    let gid = fields.next()?.parse().ok()?;
    let members = fields.next().unwrap_or("").split(',').filter(|m| !m.is_empty()).collect();
    Some(Group { name, gid, members })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:Web:/var/www:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\nlogs:x:50:web,other\n";

    fn user(text: &str) -> Result<(u32, u32, Vec<u32>, String), String> {
        let found = resolve(text, PASSWD, GROUP, &[]).map_err(|error| error.to_string())?;
        Ok((found.uid, found.gid, found.groups, found.home))
    }

    #[test]
    fn users_are_found_by_name_and_number() {
        assert_eq!(user(""), Ok((0, 0, vec![0], "/root".to_owned())));
        assert_eq!(user("web"), Ok((33, 34, vec![34, 50], "/var/www".to_owned())));
        assert_eq!(user("33"), user("web"));
        assert_eq!(user("web:logs"), Ok((33, 50, vec![50], "/var/www".to_owned())));
        assert_eq!(user("1000"), Ok((1000, 0, vec![0], "/".to_owned())));
        assert_eq!(user("1000:1000"), Ok((1000, 1000, vec![1000], "/".to_owned())));
        assert_eq!(
            user("who"),
            Err("unable to find user who: no matching entries in passwd file".to_owned())
        );
        assert_eq!(
            user("0:who"),
            Err("unable to find group who: no matching entries in group file".to_owned())
        );
        assert!(user("-1").is_err() && user("2147483648").is_err());
    }

    #[test]
    fn additional_groups_may_be_numbers_that_no_file_knows() {
        let found = resolve("web", PASSWD, GROUP, &["logs".to_owned(), "77".to_owned()]).unwrap();
        assert_eq!(found.groups, [34, 50, 77]);
    }
}
