package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kubeconfig of a cluster that is not there, for a user.
func kubeconfig(t *testing.T, user string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config")
	text := `{"apiVersion":"v1","kind":"Config","current-context":"c","contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],` +
		`"users":[{"name":"u","user":` + user + `}],"clusters":[{"name":"c","cluster":{"server":"https://127.0.0.1:1"}}]}`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestExitCodes: 2 for what cannot be right, 1 for what cannot be done, each with one line
// that says why; 0 for help and for an orderly end.
func TestExitCodes(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	used, missing, config := l.Addr().String(), filepath.Join(t.TempDir(), "missing"), kubeconfig(t, `{"token":"t"}`)
	for name, c := range map[string]struct {
		args string
		code int
		says string
	}{
		"help":                       {"--help", 0, ""},
		"the command help":           {"help", 0, ""},
		"version":                    {"--version", 0, ""},
		"the command version":        {"version", 0, ""},
		"an orderly end":             {"--election=e --id=a --kubeconfig=" + config, 0, ""},
		"no election":                {"--id=a", 2, "--election is not set"},
		"a bad election":             {"--election=A_b --id=a", 2, "which no Lease can be"},
		"an unknown flag":            {"--election=e --nothing", 2, "nothing is started that was not understood"},
		"a short ttl":                {"--election=e --id=a --ttl=1500ms", 2, "whole seconds"},
		"a deadline that is unsafe":  {"--election=e --id=a --renew-deadline=9s", 2, "at most 8s"},
		"an unknown command":         {"start --election=e", 2, "is no command"},
		"exec without a command":     {"exec --election=e --id=a", 2, "exec names no command"},
		"a command without exec":     {"--election=e --id=a -- true", 2, "unexpected argument"},
		"a question with a bad flag": {"status --nothing", 2, "not defined"},
		"a port in use":              {"--election=e --id=a --kubeconfig=" + config + " --http=" + used, 1, "--http " + used + " cannot be listened on"},
		"a kubeconfig that is gone":  {"--election=e --id=a --kubeconfig=" + missing, 1, missing},
		"a token that is gone":       {"--election=e --id=a --kubeconfig=" + kubeconfig(t, `{"tokenFile":"`+missing+`"}`), 1, missing},
		"a question to nobody":       {"status --http=127.0.0.1:1", 1, "connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			// Nothing that should end goes on.
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if c.says == "" {
				cancel()
			}
			var stdout, stderr bytes.Buffer
			if code := run(ctx, strings.Fields(c.args), &stdout, &stderr); code != c.code || !strings.Contains(stderr.String(), c.says) {
				t.Errorf("it ends with %d, want %d, and says:\n%s", code, c.code, stderr.String())
			}
			// What is fatal comes after the greeting, if there was one.
			if lines := strings.Count(stderr.String(), "\n"); c.code != 0 && lines != 1 {
				t.Errorf("it says %d lines:\n%s", lines, stderr.String())
			}
		})
	}
}
