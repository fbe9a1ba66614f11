//! Files read from a commit, not from a tree an agent can write.

use std::os::unix::fs::symlink;
use std::path::Path;

use agent_git::CommittedFile;

use crate::bed::Bed;

async fn read(bed: &Bed, path: &str, most: usize) -> Option<CommittedFile> {
    let commit = bed.fetch().await;
    let found = bed
        .git
        .committed_file(&bed.repo, &commit, Path::new(path), most);
    found.await.unwrap()
}

#[tokio::test]
async fn a_file_is_read_as_the_commit_has_it_up_to_a_limit() {
    let bed = Bed::new();
    let all = CommittedFile {
        beginning: b"hello\n".to_vec(),
        length: 6,
    };
    assert_eq!(read(&bed, "README", 100).await, Some(all));
    let some = read(&bed, "README", 2).await.unwrap();
    assert_eq!((&*some.beginning, some.length), (&b"he"[..], 6));
    for missing in ["CLAUDE.md", "src", "src/lib.rs/x", "README/x"] {
        assert_eq!(read(&bed, missing, 100).await, None, "{missing}");
    }
    let commit = bed.fetch().await;
    let tracks = |paths| bed.git.tracks(&bed.repo, &commit, paths);
    assert!(tracks(&["x", "src"]).await.unwrap());
    assert!(!tracks(&["x", "lib.rs"]).await.unwrap());
}

#[tokio::test]
async fn links_are_followed_inside_the_tree_and_not_to_the_machines_own_files() {
    let bed = Bed::new();
    for (link, target) in [
        ("CLAUDE.md", "docs/agents.md"),
        ("docs/agents.md", "../README"),
        ("absolute.md", "/etc/hostname"),
        ("outside.md", "../../../../../../etc/hostname"),
        ("round.md", "round.md"),
        ("directory.md", "src"),
    ] {
        let link = bed.author().join(link);
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        symlink(target, link).unwrap();
    }
    bed.author_commits("more");
    bed.publish("HEAD:refs/heads/main");
    assert_eq!(
        read(&bed, "CLAUDE.md", 100).await.unwrap().beginning,
        b"hello\n"
    );
    for bad in ["absolute.md", "outside.md", "round.md", "directory.md"] {
        assert_eq!(read(&bed, bad, 100).await, None, "{bad}");
    }
}
