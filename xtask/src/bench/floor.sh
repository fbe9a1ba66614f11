#!/bin/sh
# What the server does for a job, as a person would type it: one command after the other.
# Each step's name goes to standard output when it is done; echo is part of the shell.
set -eu
mirror=$1 workspace=$2 branch=$3 claude=$4 prompt=$5 output=$6

cd "$mirror"
git fetch --quiet --prune origin
echo 'git fetch'
git worktree add --quiet -b "$branch" "$workspace" refs/remotes/origin/main
echo 'git worktree add'
cd "$workspace"
"$claude" -p --output-format stream-json --verbose --permission-mode bypassPermissions \
    <"$prompt" >"$output" 2>&1
echo 'claude'
git add -A
echo 'git add'
git diff --cached --quiet || git commit --quiet -m "feat: $branch"
echo 'git diff, git commit'
git push --quiet -u origin "$branch"
echo 'git push'
cd "$mirror"
git worktree remove --force "$workspace"
echo 'git worktree remove'
git branch --quiet -D "$branch"
echo 'git branch -D'
