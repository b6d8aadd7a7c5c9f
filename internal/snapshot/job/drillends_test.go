package job

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/store"
)

// fakeTools are etcd's programs as scripts: each does what it is told to when it is asked for
// its version, to restore, and to serve.
type fakeTools struct{ version, restore, serve string }

func (f fakeTools) write(t *testing.T) Tools {
	t.Helper()
	dir := t.TempDir()
	tools := Tools{Etcd: filepath.Join(dir, "etcd"), Etcdutl: filepath.Join(dir, "etcdutl"), Patience: 30 * time.Second}
	for path, script := range map[string]string{
		tools.Etcd:    "if [ \"$1\" = --version ]; then\n" + f.version + "\necho etcd Version: 3.6.16\nexit 0\nfi\n" + f.serve + "\n",
		tools.Etcdutl: f.restore + "\nfor flag; do case $flag in --data-dir=*) mkdir -p ${flag#*=} ;; esac; done\n",
	} {
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o700); err != nil { //nolint:gosec // it is run
			t.Fatal(err)
		}
	}
	return tools
}

// verifiedBackup was drilled before, and the store says so.
func verifiedBackup(t *testing.T) (*Env, snapshot.Manifest) {
	t.Helper()
	e, _ := newEnv(t)
	m := stored(t, e, 7, snapshot.CompressionNone)
	v := snapshot.Verification{Format: snapshot.Format, ID: m.ID, ManifestChecksum: m.Checksum, Time: time.Now().UTC(), EtcdVersion: "3.6.16"}
	if err := e.record(t.Context(), &v); err != nil {
		t.Fatal(err)
	}
	return e, m
}

func staysVerified(t *testing.T, e *Env, m snapshot.Manifest) bool {
	t.Helper()
	_, err := e.Store.Get(t.Context(), e.Place.Key(m.ID, snapshot.VerificationObject), snapshot.MaxManifest)
	if err != nil && !errors.Is(err, store.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// Only what etcd finds in the data itself shows that a backup is bad. That it was killed, is
// slow, or has no room, memory or port shows nothing: it is tried again, and what an earlier
// drill has shown holds.
func TestDrillThatShowsNothing(t *testing.T) {
	const trace = "\ni=0\nwhile [ $i -lt 99 ]; do echo 'goroutine 1 [running]: what.ever(0xc0000, 0x1, 0x2)'; i=$((i+1)); done\nexit 2"
	for name, tc := range map[string]struct {
		tools fakeTools
		want  snapshot.Reason
	}{
		"etcd ends on the data":       {fakeTools{serve: "echo panic: freepages: failed to get all reachable pages; exit 2"}, snapshot.ReasonNotRestorable},
		"etcdutl refuses it":          {fakeTools{restore: "echo Error: snapshot restore failed; exit 1"}, snapshot.ReasonNotRestorable},
		"etcd never serves":           {fakeTools{serve: "exec sleep 60"}, snapshot.ReasonEtcdUnreachable},
		"etcd is killed":              {fakeTools{serve: "kill -9 $$"}, snapshot.ReasonInterrupted},
		"etcd is told to end":         {fakeTools{serve: "kill -15 $$"}, snapshot.ReasonInterrupted},
		"etcd has no room":            {fakeTools{serve: "echo 'panic: write /work/db: no space left on device'" + trace}, snapshot.ReasonNoSpace},
		"etcd has a bad disk":         {fakeTools{serve: "echo 'read /work/db: input/output error'" + trace}, snapshot.ReasonVolumeUnusable},
		"etcd has no memory":          {fakeTools{serve: "echo 'fatal error: runtime: out of memory'" + trace}, snapshot.ReasonInterrupted},
		"etcd never gets a port":      {fakeTools{serve: "echo 'listen tcp 127.0.0.1:1: bind: address already in use'; exit 1"}, snapshot.ReasonEtcdUnreachable},
		"etcdutl is killed":           {fakeTools{restore: "kill -9 $$"}, snapshot.ReasonInterrupted},
		"etcdutl has no room":         {fakeTools{restore: "echo 'Error: write db: no space left on device'; exit 1"}, snapshot.ReasonNoSpace},
		"etcd's version is not heard": {fakeTools{version: "kill -9 $$"}, snapshot.ReasonInterrupted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, m := verifiedBackup(t)
			tools := tc.tools.write(t)
			if tc.want == snapshot.ReasonEtcdUnreachable {
				tools.Patience = time.Second
			}
			_, err := e.Drill(t.Context(), Drill{ID: m.ID, Tools: tools, WorkDir: t.TempDir()})
			bad := tc.want == snapshot.ReasonNotRestorable
			if reason := snapshot.ReasonOf(err); reason != tc.want || reason.Permanent() != bad {
				t.Errorf("%s, permanent: %t: %v", reason, reason.Permanent(), err)
			}
			if staysVerified(t, e, m) == bad {
				t.Errorf("it stays verified: %t", !bad)
			}
		})
	}
}

// A node without memory or processes cannot start a program, and can a moment later. A program
// that is not there, or is none, is not going to be.
func TestDrillThatCannotStartAProgram(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE} {
		err := cannotRun("etcd", &os.PathError{Op: "fork/exec", Path: "/usr/local/bin/etcd", Err: errno})
		if reason := snapshot.ReasonOf(err); reason != snapshot.ReasonInterrupted || reason.Permanent() || reason.Condemns() {
			t.Errorf("%v: %s, %v", errno, reason, err)
		}
	}
	none := filepath.Join(t.TempDir(), "none")
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("text"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	for _, program := range []string{none, text} {
		_, err := versionOf(t.Context(), program, "--version")
		if reason := snapshot.ReasonOf(err); reason != snapshot.ReasonUsage {
			t.Errorf("%s: %s, %v", program, reason, err)
		}
	}
}

// A pod is told to end at any moment, and must not leave a last word about the backup.
func TestDrillThatIsToldToEnd(t *testing.T) {
	for name, place := range map[string]func(*fakeTools, string){
		"asking for the version": func(f *fakeTools, wait string) { f.version = wait },
		"restoring":              func(f *fakeTools, wait string) { f.restore = wait },
		"starting etcd":          func(f *fakeTools, wait string) { f.serve = wait },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, m := verifiedBackup(t)
			here := filepath.Join(t.TempDir(), "here")
			var f fakeTools
			place(&f, ": > "+here+"; exec sleep 60")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan error, 1)
			go func() {
				_, err := e.Drill(ctx, Drill{ID: m.ID, Tools: f.write(t), WorkDir: t.TempDir()})
				ended <- err
			}()
			awaitFile(t, here)
			cancel()
			select {
			case err := <-ended:
				if reason := snapshot.ReasonOf(err); reason != snapshot.ReasonInterrupted {
					t.Errorf("%s: %v", reason, err)
				}
			case <-time.After(15 * time.Second):
				t.Fatal("it goes on")
			}
			if !staysVerified(t, e, m) {
				t.Error("it is verified no more")
			}
		})
	}
}

func awaitFile(t *testing.T, path string) {
	t.Helper()
	for range 600 {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("there is no %s", path)
}

// The same for what is served to put an archive together, whose bases would be refused.
func TestDrillServerThatIsToldToEnd(t *testing.T) {
	here := filepath.Join(t.TempDir(), "here")
	tools := fakeTools{serve: "trap 'exit 1' TERM; : > " + here + "; while :; do sleep 0.1; done"}.write(t)
	s, err := newServer(tools, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		awaitFile(t, here)
	}()
	if err := s.start(ctx); snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
		t.Errorf("told to end while etcd starts: %v", err)
	}
	// Whoever ends this process may end etcd first.
	if err := s.ended(ctx); snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
		t.Errorf("told to end when etcd has ended: %v", err)
	}
	if _, err := versionOf(ctx, tools.Etcd, "--version"); snapshot.ReasonOf(err) != snapshot.ReasonInterrupted {
		t.Errorf("told to end before etcd says its version: %v", err)
	}
}

// Ports that somebody has taken are given up for others.
func TestDrillPorts(t *testing.T) {
	asked := filepath.Join(t.TempDir(), "asked")
	tools := fakeTools{serve: "echo $* >> " + asked + "\nif [ $(wc -l < " + asked + ") = 1 ]; then echo 'bind: address already in use'; exit 1; fi\necho panic; exit 2"}.write(t)
	s, err := newServer(tools, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.start(t.Context()); snapshot.ReasonOf(err) != snapshot.ReasonNotRestorable {
		t.Errorf("with other ports: %v", err)
	}
	content, err := os.ReadFile(asked)
	if err != nil {
		t.Fatal(err)
	}
	var urls []string
	for flag := range strings.FieldsSeq(string(content)) {
		if url, ok := strings.CutPrefix(flag, "--listen-client-urls="); ok {
			urls = append(urls, url)
		}
	}
	if len(urls) != 2 || urls[0] == urls[1] {
		t.Errorf("etcd was to serve at %v", urls)
	}
	drawn := 0
	client, peer, err := twoPorts(func(int) int { // each number twice
		drawn++
		return (drawn - 1) / 2
	})
	if err != nil || client == peer {
		t.Errorf("the ports are %s and %s (%v)", client, peer, err)
	}
}
