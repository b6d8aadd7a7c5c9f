package member

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/member"
)

// wantMessage checks that the termination message is one line with the reason.
func (n *node) wantMessage(reason member.Reason) {
	n.c.t.Helper()
	message := n.message()
	n.c.t.Logf("termination message: %s", message)
	if !strings.HasPrefix(message, string(reason)+": ") || strings.Contains(message, "\n") || strings.Count(message, " — ") != 2 {
		n.c.t.Errorf("termination message %q, want one line: %s: what — why — what to do", message, reason)
	}
	if got, want := member.Corruption(message), reason == member.ReasonDataCorrupt; got != want {
		n.c.t.Errorf("corruption: %v, want %v", got, want)
	}
}

func TestARemovedMemberEndsAndSaysSo(t *testing.T) {
	eachVersion(t, func(t *testing.T, version string) {
		c := newCluster(t, version, guarded, 4)
		c.found(c.members...)
		m0, gone, off := c.members[0], c.members[2], c.members[3]
		removeMember(c, gone, m0)
		if code := gone.process.exitCode(t); code != member.ExitRemoved {
			t.Errorf("removed while it ran: exit code %d, want %d", code, member.ExitRemoved)
		}
		gone.wantMessage(member.ReasonRemoved)

		must(t, os.Remove(filepath.Join(gone.pod(), "termination-log")))
		gone.start()
		if code := gone.process.exitCode(t); code != member.ExitRemoved {
			t.Errorf("started again: exit code %d, want %d", code, member.ExitRemoved)
		}
		gone.wantMessage(member.ReasonRemoved)

		off.kill()
		removeMember(c, off, m0)
		off.start()
		if code := off.process.exitCode(t); code != member.ExitRemoved {
			t.Errorf("removed while it was off: exit code %d, want %d", code, member.ExitRemoved)
		}
		off.wantMessage(member.ReasonRemoved)
	})
}

func TestDamagedDataIsTold(t *testing.T) {
	for name, damage := range map[string]func(*node) error{
		"a record of the log": func(n *node) error {
			return n.overwrite("member/wal/*.wal", func(content []byte) {
				content[bytes.Index(content, []byte("acknowledged"))] ^= 1
			})
		},
		"the head of the log": func(n *node) error {
			return n.overwrite("member/wal/*.wal", func(content []byte) { clear(content[:512]) })
		},
		"the database's meta pages": func(n *node) error {
			return n.overwrite("member/snap/db", func(content []byte) { clear(content[:2*os.Getpagesize()]) })
		},
		"the database's data pages": func(n *node) error {
			return n.overwrite("member/snap/db", func(content []byte) { clear(content[2*os.Getpagesize():]) })
		},
		"the database's length": func(n *node) error {
			return os.Truncate(filepath.Join(n.data(), "member/snap/db"), int64(os.Getpagesize()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachVersion(t, func(t *testing.T, version string) {
				c := newCluster(t, version, guarded, 1)
				m0 := c.members[0]
				c.found(m0)
				m0.put("k/", acknowledged)
				m0.kill()
				must(t, damage(m0))
				m0.start()
				if code := m0.process.exitCode(t); code != 1 && code != 2 {
					t.Errorf("exit code %d, want etcd's 1 or 2", code)
				}
				m0.wantMessage(member.ReasonDataCorrupt)
			})
		})
	}
}

// overwrite changes the one file that the pattern names, below the data directory.
func (n *node) overwrite(pattern string, change func([]byte)) error {
	names, err := filepath.Glob(filepath.Join(n.data(), pattern))
	if err != nil || len(names) != 1 {
		return errors.Join(err, errors.New("not one file: "+strings.Join(names, " ")))
	}
	content, err := os.ReadFile(names[0])
	if err != nil {
		return err
	}
	change(content)
	return os.WriteFile(names[0], content, 0o600)
}
