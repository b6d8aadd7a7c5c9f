package job

import (
	"testing"

	"github.com/quorate/quorate/test/mutants"
)

// breaches give up a rule each: of the archive, of the drill, of whom a snapshot is taken
// from, of retention, or of a look into the store.
var breaches = map[string]mutants.Mutant{
	"a hole in a watch is taken":             mutants.Of("watch.go", "if revision != w.last+1 {", "if false {"),
	"half a revision is handed out":          mutants.Of("watch.go", "if !r.GetFragment() {", "if true {"),
	"writes that go on are never stored":     mutants.Of("archive.go", "if due {\n\t\t\treturn s.seal(ctx)", "if due && s == nil {\n\t\t\treturn s.seal(ctx)"),
	"complete without what was confirmed":    mutants.Of("archive.go", "if s.last >= s.mark.revision && s.mark.at.After(next.Ended) {", "if s.Now().After(next.Ended) {\n\t\tnext.Ended = s.Now()\n\t}\n\tif false {"),
	"a watch that stalls is waited for":      mutants.Of("archive.go", "now.Sub(s.mark.at) > watchStall && now.Sub(s.at) > watchStall", "now.IsZero()"),
	"a base of before a change of users":     mutants.Of("archive.go", "if auth != next.AuthBefore {", "if false {"),
	"authentication is turned on unseen":     mutants.Of("lease.go", "if r.GetEnabled() {", "if false {"),
	"a cluster that went back is archived":   mutants.Of("archive.go", "if auth < next.AuthBefore {", "if false {"),
	"two archivers":                          mutants.Of("archive.go", "ok && other != l && !", "ok && false && !"),
	"it goes on from a damaged end":          mutants.Of("chain.go", "if snapshot.ReasonOf(err) == snapshot.ReasonCorrupt {\n\t\tc.damaged(l, err)\n\t}", "if snapshot.ReasonOf(err) == snapshot.ReasonCorrupt {\n\t\treturn s, content, sum, nil\n\t}"),
	"a lease is recorded for ever":           mutants.Of("lease.go", "delete(s.leases, id)", ""),
	"a replay takes any revision":            mutants.Of("replay.go", "if got := answer.GetHeader().GetRevision(); got != revision {", "if got := answer.GetHeader().GetRevision(); got == 0 {"),
	"a replay writes on other keys":          mutants.Of("replay.go", "if !answer.GetSucceeded() {", "if false {"),
	"a replay leaves out a revision":         mutants.Of("replay.go", "if revision != r.at+1 {", "if false {"),
	"rights that were lost are given again":  mutants.Of("replay.go", "if err != nil || auth == want {", "if err != nil || auth > 0 {"),
	"unreadable content is read for ever":    mutants.Of("point.go", "c.damaged(l, err)", ""),
	"a missing segment hides what was":       mutants.Of("point.go", "for _, l := range holding {", "for _, l := range holding[len(holding)-1:] {"),
	"a base that changed is replayed on":     mutants.Of("replay.go", "if r.at == r.base {", "if r.at >= r.base {"),
	"a snapshot of what changed at the end":  mutants.Of("replay.go", "if got, err := r.confirmed(ctx); err != nil || got != r.point.revision {\n\t\treturn errors.Join(err, r.differs(\"what", "if got, err := r.confirmed(ctx); err != nil {\n\t\treturn errors.Join(err, r.differs(\"what"),
	"leases are asked for one by one":        mutants.Of("keeper.go", "k.add(id, shortestTTL)\n\t}\n\tgo k.send(ctx, stream)", "defer func() { go k.send(ctx, stream) }()\n\t\t_ = id\n\t}"),
	"a base without room is not written to":  mutants.Of("replay.go", "alarm.GetAlarm() != pb.AlarmType_NOSPACE", "alarm != nil"),
	"a damaged base ends the search":         mutants.Of("replay.go", "return done, ofBase(err)", "return done, err"),
	"trouble is told for ever":               mutants.Of("archive.go", "s.progress.Until, s.progress.Trouble = next.Ended, nil", "s.progress.Until = next.Ended"),
	"a base is lost with the store":          mutants.Of("base.go", "if found.trouble == nil {", "if true {"),
	"a damaged end is all that there is":     mutants.Of("chain.go", "|| tip != nil || whole {", "|| tip != nil || whole || tip == nil {"),
	"a drill that does not compare keys":     mutants.Of("rebuild.go", "case count.GetCount() != live.KeyCount:", "case false:"),
	"a drill that does not compare hashes":   mutants.Of("rebuild.go", "case got.hash != live.HashKV:", "case false:"),
	"hashes of different things":             mutants.Of("rebuild.go", "case got.compacted != live.CompactRevision:", "case false:"),
	"verified without the last revision":     mutants.Of("drill.go", "if v.SnapshotRevision < m.Etcd.Revision {", "if false {"),
	"verified without its keys":              mutants.Of("drill.go", "case v.KeyCount != m.Etcd.KeyCount:", "case false:"),
	"verified by another compaction":         mutants.Of("drill.go", "case got.compacted != m.Etcd.CompactRevision:", "case false:"),
	"verified with other values":             mutants.Of("drill.go", "case got.hash != m.Etcd.HashKV:", "case false:"),
	"a snapshot of a learner":                mutants.Of("source.go", "if r.GetIsLearner() {", "if false {"),
	"a snapshot that nobody confirmed":       mutants.Of("source.go", "err := candidate.confirm(ctx)\n\t\tif err == nil {", "err := candidate.confirm(ctx)\n\t\tif true {"),
	"a snapshot of any cluster":              mutants.Of("source.go", `m.ClusterID != "" && id != `, `m.ClusterID == "" && id != `),
	"a snapshot of the leader":               mutants.Of("source.go", "cmp.Compare(leads(a), leads(b))", "0"),
	"another history is appended":            mutants.Of("archive.go", "if sum != s.next.Last {", "if sum == \"\" {"),
	"an idle segment forgets what was last":  mutants.Of("archive.go", "tip.BaseRevision, tip.BaseSince, tip.Last", `tip.BaseRevision, tip.BaseSince, ""`),
	"a base that is deleted is not missed":   mutants.Of("archive.go", "now.Sub(s.checked) >= baseCheck", "now.IsZero()"),
	"a count of before is taken for a state": mutants.Of("replay.go", "if s.Last == \"\" {", "if false {"),
	"what was encrypted is stored plain":     mutants.Of("replay.go", "r.recipients = s.Recipients", ""),
	"the recipients of before are enough":    mutants.Of("rebuild.go", "names := replayed.Recipients", "var names []string"),
	"an outage is restored in silence":       mutants.Of("point.go", "last.revision, last.changed = revision, r.at", "last.revision = revision"),
	"a key twice in a revision is refused":   mutants.Of("replay.go", "if twice {", "if !twice && txn == nil {"),
	"what a key was before is asked between": mutants.Of("replay.go", "if !known {", "if !known || deleted {"),
	"a base comes before any segment":        mutants.Of("archive.go", `if now := s.Now(); s.next.Previous != "" &&`, "if now := s.Now();"),
	"segments that are gone are not missed":  mutants.Of("base.go", "if trail == nil || trail.Whole(segment.From-1) {", "if trail == nil || segment.From > 0 {"),
	"what is lost is not told":               mutants.Of("base.go", "s.progress.Lost = lost\n", ""),
	"an end that is gone waits for an hour":  mutants.Of("base.go", "err != nil || there {", "err != nil || there || true {"),
	"the next process keeps a broken base":   mutants.Of("archive.go", "if written || rebased ||", "_ = rebased\n\tif written ||"),
	"a lost archive begins as a first one":   mutants.Of("base.go", `err == nil && m.UID == "" &&`, `err == nil && m.UID == "x" &&`),
	"a user's backup is taken for a base":    mutants.Of("base.go", `m.UID == "" && m.Name == ArchiveBase`, "m.Name == ArchiveBase"),
	"a refused base is tried first":          mutants.Of("point.go", "append(sound, refused...)", "append(refused, sound...)"),
	"a base is refused for being ahead":      mutants.Of("rebuild.go", "errors.Is(err, errBeyond) || (", "(err == nil) || ("),
	"what cannot be read was not drilled":    mutants.Of("catalog.go", "if errors.Is(err, store.ErrNotExist) {\n\t\treturn nil, nil", "if err != nil {\n\t\treturn nil, nil"),
	"a listing says what was not drilled":    mutants.Of("prune.go", "asked[backups[i].ID] = backups[i].Verified != nil", "asked[backups[i].ID] = true"),
	"a damaged record is none":               mutants.Of("prune.go", "return catalog.Doubtful[d.ID] != nil", "return false"),
	"a damaged record is not told":           mutants.Of("catalog.go", "c.Doubtful[id] = err", ""),
	"a listing says what has no manifest":    mutants.Of("prune.go", "if errors.Is(err, store.ErrNotExist) {", "if err != nil || true {"),
	"one backup waits for every segment":     mutants.Of("prune.go", "orphans, more := e.orphans(ctx, p, unfinished)", "e.pruneArchives(ctx, p, Catalog{}, nil)\n\torphans, more := e.orphans(ctx, p, unfinished)"),
	"one backup waits for every other":       mutants.Of("prune.go", "return e.pruneNamed(ctx, p)", "if _, err := e.Catalog(ctx); err != nil {\n\t\t\treturn pruned, nil, err\n\t\t}\n\t\treturn e.pruneNamed(ctx, p)"),
	"one backup waits for a listing":         mutants.Of("prune.go", "return pruned, append(warnings, err.Error()), toldToEnd(ctx)", "return pruned, warnings, err"),
	"a deletion waits for what stalls":       mutants.Of("prune.go", "err := e.watched(ctx, 1, func(", "err := func(work func(context.Context, int) error) error { return work(ctx, 1) }(func("),
	"what cannot be read needs no segment":   mutants.Of("prune.go", "if len(catalog.Unreadable) == 0 {", "if true {"),
	"an archive of now is dropped":           mutants.Of("prune.go", "oldest > 0 || !tip.Ended.Before(before)", "oldest > 0 || tip.Sequence < 0"),
	"an archive that nobody needs stays":     mutants.Of("prune.go", "oldest > 0 || !tip.Ended.Before(before)", "oldest > 0 || tip.Sequence >= 0"),
	"a listing that stalls is waited for":    mutants.Of("catalog.go", "return e.watched(ctx, 1, func(", "return func(work func(context.Context, int) error) error { return work(ctx, 1) }(func("),
	"a manifest that stalls is waited for":   mutants.Of("catalog.go", "e.try(ctx, func(ctx context.Context, _ int) (err error) {\n\t\tm, err", "func(work func(context.Context, int) error) error { return work(ctx, 1) }(func(ctx context.Context, _ int) (err error) {\n\t\tm, err"),
	"a catalog that stalls is waited for":    mutants.Of("catalog.go", "e.try(ctx, func(ctx context.Context, _ int) (err error) {\n\t\tc, err", "func(work func(context.Context, int) error) error { return work(ctx, 1) }(func(ctx context.Context, _ int) (err error) {\n\t\tc, err"),
	"what stalls is taken for missing":       mutants.Of("save.go", "if ctx.Err() != nil { // what", "if false { // what"),
	"a long catalog is given up on":          mutants.Of("catalog.go", "snapshot.MaxManifest)\n\te.Tracker.read(0)", "snapshot.MaxManifest)"),
	"rights that were lost by a time":        mutants.Of("replay.go", "if !r.point.target.Time.IsZero() {", "if false {"),
}

// TestMutants runs the guards against each.
func TestMutants(t *testing.T) {
	mutants.Caught(t, breaches, "-run=^(TestArchive|TestWatch|TestReplay|TestRecords|TestDrill|TestSource|TestPrune|TestLooking)")
}
