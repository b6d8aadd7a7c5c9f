package snapshot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
)

// A drill that is told to end at any moment says that it was, and nothing of the backup, and
// what an earlier one has shown holds.
func TestADrillThatIsToldToEnd(t *testing.T) {
	t.Parallel()
	source, store := startEtcd(t, "3.6.16"), directoryBucket(t)
	live(t, source.client, 11, 50)
	id := store.save(t, source).mustSucceed(t).result.Backup.ID
	began := time.Now()
	store.drill(t, "3.6.16", "--backup="+id).mustSucceed(t)
	whole := time.Since(began)
	ended := map[snapshot.Reason]int{}
	// A drill may take shorter than the first one, and then few are met: it goes on until
	// enough were.
	const times, atMost = 12, 48
	for i := 0; i < times || ended[snapshot.ReasonInterrupted] < times/2 && i < atMost; i++ {
		termination := filepath.Join(t.TempDir(), "termination")
		command := store.command(t, termination, "drill", "--backup="+id,
			"--etcd="+tool(t, "3.6.16", "etcd"), "--etcdutl="+tool(t, "3.6.16", "etcdutl"), "--work-dir="+t.TempDir())
		log := filepath.Join(t.TempDir(), "log")
		p := start(t, log, command)
		// Before its first word it has not heard of signals, and leaves none: nobody learns
		// anything then, of the backup neither.
		eventually(t, 30*time.Second, "the drill begins", func() error {
			info, err := os.Stat(log)
			if err == nil && info.Size() == 0 {
				err = errors.New("it has said nothing yet")
			}
			return err
		})
		began := time.Now()
		select {
		case <-p.done:
			whole = min(whole, time.Since(began))
		case <-time.After(whole * time.Duration(i%times) / times):
			_ = p.command.Process.Signal(syscall.SIGTERM)
			select {
			case <-p.done:
			case <-time.After(time.Minute):
				t.Fatal("it goes on")
			}
		}
		content, err := os.ReadFile(termination)
		if err != nil {
			t.Fatal(err)
		}
		result, err := snapshot.ParseResult(string(content))
		if err != nil {
			t.Fatal(err)
		}
		ended[result.Reason]++
		if code := p.command.ProcessState.ExitCode(); result.Reason != snapshot.ReasonVerified && (result.Reason != snapshot.ReasonInterrupted || code != snapshot.ExitFailed) {
			t.Errorf("code %d, %s: %s", code, result.Reason, result.Message)
		}
		if listed := store.list(t); len(listed) != 1 || listed[0].Verified == nil {
			t.Fatalf("listed: %+v", listed)
		}
	}
	if ended[snapshot.ReasonInterrupted] < times/2 {
		t.Errorf("too few were interrupted: %v", ended)
	}
}

// A real etcd whose port is taken serves the restored data at another, although it was
// restored for the first; and one that is killed says nothing of the backup.
func TestADrillWhoseEtcdHasNoPort(t *testing.T) {
	t.Parallel()
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			source, store := startEtcd(t, version), directoryBucket(t)
			live(t, source.client, 11, 20)
			store.save(t, source).mustSucceed(t)
			first := filepath.Join(t.TempDir(), "first")
			taken := wrapped(t, version, fmt.Sprintf(`if [ ! -e %[1]s ]; then
	: > %[1]s
	for flag; do case $flag in --listen-peer-urls=*) port=${flag##*:} ;; esac; done
	exec %[2]s --name=other --data-dir=%[1]s.data --listen-client-urls=http://127.0.0.1:$port --advertise-client-urls=http://127.0.0.1:$port --listen-peer-urls=http://127.0.0.1:$port --initial-advertise-peer-urls=http://127.0.0.1:$port --initial-cluster=other=http://127.0.0.1:$port
fi`, first, tool(t, version, "etcd")))
			store.drill(t, version, "--etcd="+taken).mustSucceed(t)
			if _, err := os.Stat(first); err != nil {
				t.Errorf("no port was taken: %v", err)
			}
			killed := store.drill(t, version, "--etcd="+wrapped(t, version, "kill -9 $$")).mustFail(t, snapshot.ReasonInterrupted)
			if listed := store.list(t); len(listed) != 1 || listed[0].Verified == nil || !strings.Contains(killed.result.Message, "killed") {
				t.Errorf("listed: %+v; %s", listed, killed.result.Message)
			}
		})
	}
}

// wrapped is an etcd that does something before it serves.
func wrapped(t *testing.T, version, before string) string {
	t.Helper()
	etcd, path := tool(t, version, "etcd"), filepath.Join(t.TempDir(), "etcd")
	script := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" != --version ]; then\n%s\nfi\nexec %s \"$@\"\n", before, etcd)
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil { //nolint:gosec // it is run
		t.Fatal(err)
	}
	return path
}
