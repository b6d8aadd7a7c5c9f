package elector

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/leader"
)

func environ(pairs ...string) func(string) string {
	return func(name string) string {
		for _, p := range pairs {
			if k, v, _ := strings.Cut(p, "="); k == name {
				return v
			}
		}
		return ""
	}
}

// TestOldFlags keep name, default and meaning of leader-elector 0.5.
func TestOldFlags(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("POD_NAME", "")
	o, err := Parse([]string{"--election=example"}, environ(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if o.Identity != host || o.Namespace != "default" || o.TTL != 10*time.Second || o.UseClusterCredentials || o.HTTP != "" {
		t.Errorf("%+v", o)
	}
	// run.sh put --id before what it was given: the later one wins.
	o, err = Parse([]string{"--id=host", "--election=example", "--http=0.0.0.0:4040", "--id=pod-a", "--election-namespace=ns", "--ttl=15s", "--use-cluster-credentials=true"}, environ(), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := o.config("example", nil, nil)
	if c.Identity != "pod-a" || c.Namespace != "ns" || c.LeaseDuration != 15*time.Second || !o.UseClusterCredentials || o.HTTP != "0.0.0.0:4040" {
		t.Errorf("%+v", o)
	}
}

// TestEnvironment stands for flags that are not given.
func TestEnvironment(t *testing.T) {
	env := environ("LEADER_ELECTOR_ELECTION=a,b", "LEADER_ELECTOR_TTL=20s", "LEADER_ELECTOR_RENEW_DEADLINE=12s", "LEADER_ELECTOR_READ_ONLY=true",
		"POD_NAME=pod-a", "POD_NAMESPACE=ns", "POD_UID=uid", "LEADER_ELECTOR_POD_UID=other", "LEADER_ELECTOR_LABEL=role=active,passive")
	t.Setenv("POD_NAME", "pod-a")
	o, err := Parse([]string{"--ttl=30s"}, env, nil)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Join(o.Elections, " ") != "a b" || o.TTL != 30*time.Second || o.RenewDeadline != 12*time.Second || o.Pod != (Pod{"pod-a", "ns", "other"}) ||
		o.config("a", nil, nil).Role != leader.Observer || o.Label != (Label{"role", "active", "passive"}) || o.Identity != "pod-a" {
		t.Errorf("%+v", o)
	}
	o, err = Parse([]string{"--election=c", "--election=d"}, env, nil)
	if err != nil || strings.Join(o.Elections, " ") != "c d" {
		t.Errorf("%v, %v", o, err)
	}
	if _, err := Parse([]string{"--election=c"}, environ("LEADER_ELECTOR_DRAIN=soon"), nil); err == nil || !strings.Contains(err.Error(), "LEADER_ELECTOR_DRAIN") {
		t.Errorf("a wrong variable: %v", err)
	}
}

// TestBadInput: one line says what is wrong, why it matters and what to do.
func TestBadInput(t *testing.T) {
	for args, want := range map[string]string{
		"":                                                      "--election",
		"--election=":                                           "no name",
		"--election=Ex_ample":                                   "Ex_ample",
		"--election=a --election=a":                             "twice",
		"--election=a --ttl=abc":                                "abc",
		"--election=a --ttl=1s":                                 "1s",
		"--election=a --ttl=0s":                                 "--ttl is 0s",
		"--election=a --ttl=2500ms":                             "2.5s",
		"--election=a --unknown=1":                              "unknown",
		"--election=a --drain=-1s":                              "-1s",
		"--election=a --http=4040":                              "4040",
		"--election=a --http=unix:sock":                         "unix:sock",
		"--election=a --log-format=xml":                         "xml",
		"--election=a --webhook=ftp://x":                        "ftp://x",
		"--election=a --health-failures=0":                      "--health-failures",
		"--election=a --health-url=http://x --health-file=y":    "both",
		"--election=a --renew-deadline=9s":                      "9s",
		"--election=a --renew-interval=4s":                      "4s",
		"--election=a --label=a/b/c":                            "label",
		"--election=a --label=role=x,x":                         "same",
		"--election=a --on-stop=/no/such/command":               "/no/such/command",
		"--election=a --election-namespace=N":                   `"N"`,
		"--election=a --label=role":                             "--pod-namespace",
		"--election=a --label-others":                           "--label is not",
		"--election=a --health-grace=1m":                        "nobody is unhealthy",
		"--election=a --health-url=http://x --health-grace=-1s": "-1s",
	} {
		_, err := Parse(strings.Fields(args), environ(), nil)
		if err == nil {
			t.Errorf("%q is taken", args)
			continue
		}
		if s := err.Error(); !strings.Contains(s, want) || strings.Contains(s, "\n") || strings.Count(s, " — ") < 1 {
			t.Errorf("%q: %s", args, s)
		}
	}
	var help bytes.Buffer
	if _, err := Parse([]string{"--help"}, environ(), &help); !errors.Is(err, flag.ErrHelp) || !strings.HasPrefix(help.String(), usage) || !strings.Contains(help.String(), "-election-namespace") {
		t.Errorf("--help: %v, %s", err, &help)
	}
	if o, err := Parse([]string{"--version"}, environ(), nil); err != nil || !o.PrintVersion {
		t.Errorf("--version: %v", err)
	}
}
