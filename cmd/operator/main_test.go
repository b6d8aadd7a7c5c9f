package main

import (
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestMain runs the operator itself when a test asks for it, so that its exit
// code can be seen.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_OPERATOR") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestParse(t *testing.T) {
	t.Setenv("MEMBER_IMAGE", "member:v1")
	t.Setenv("WATCH_NAMESPACES", "")
	cases := map[string]struct {
		args  []string
		check func(*options) bool
	}{
		"the defaults": {nil, func(o *options) bool {
			return o.memberImage == "member:v1" && o.metricsSecure && !o.leaderElect && o.metricsAddress == ":8443" && len(o.namespaceList()) == 0
		}},
		"a flag beats the environment": {[]string{"--member-image=other"}, func(o *options) bool { return o.memberImage == "other" }},
		"one namespace":                {[]string{"--watch-namespaces=db"}, func(o *options) bool { return slices.Equal(o.namespaceList(), []string{"db"}) }},
		"namespaces with white space":  {[]string{"--watch-namespaces", " db , app,,"}, func(o *options) bool { return slices.Equal(o.namespaceList(), []string{"db", "app"}) }},
		"console logs":                 {[]string{"--zap-encoder=console", "--zap-log-level=debug"}, func(o *options) bool { return o.zap.NewEncoder != nil }},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			o, err := parse(tc.args, io.Discard)
			if err != nil || !tc.check(o) {
				t.Errorf("parse(%q) = %+v, %v", tc.args, o, err)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	t.Setenv("MEMBER_IMAGE", "member:v1")
	cases := map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":         {[]string{"--verbose"}, "-verbose"},
		"a value of another kind": {[]string{"--kube-api-burst=many"}, `"many"`},
		"an argument":             {[]string{"run"}, `"run"`},
		"no member image":         {[]string{"--member-image="}, "--member-image is empty"},
		"a bad namespace":         {[]string{"--watch-namespaces=db,My_App"}, `"My_App"`},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := parse(tc.args, io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), " — ") || strings.Contains(err.Error(), "\n") {
				t.Errorf("parse(%q) = %v, want one line that names %s and what to do", tc.args, err, tc.want)
			}
		})
	}
	var help strings.Builder
	if _, err := parse([]string{"--help"}, &help); !errors.Is(err, flag.ErrHelp) || !strings.Contains(help.String(), "-watch-namespaces") {
		t.Errorf("--help: %v, %s", err, help.String())
	}
}

func TestExitCodes(t *testing.T) {
	cases := map[string]struct {
		args   []string
		code   int
		stdout string
		stderr string
	}{
		"an unknown flag": {[]string{"--verbose"}, 2, "", "-verbose"},
		"no member image": {nil, 2, "", "--member-image is empty"},
		"the version":     {[]string{"--version"}, 0, "", ""},
		"help":            {[]string{"-h"}, 0, "-watch-namespaces", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			var stdout, stderr strings.Builder
			cmd := exec.CommandContext(t.Context(), os.Args[0], tc.args...) //nolint:gosec // this very test binary.
			cmd.Env = []string{"RUN_OPERATOR=1"}
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			err := cmd.Run()
			if cmd.ProcessState == nil {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != tc.code {
				t.Errorf("exit code %d, want %d", got, tc.code)
			}
			if !strings.Contains(stdout.String(), tc.stdout) || !strings.Contains(stderr.String(), tc.stderr) {
				t.Errorf("printed %q and %q", stdout.String(), stderr.String())
			}
			if strings.Count(strings.TrimSpace(stderr.String()), "\n") > 0 {
				t.Errorf("what is wrong is not one line:\n%s", stderr.String())
			}
		})
	}
}

func TestManagerOptions(t *testing.T) {
	o := &options{metricsAddress: ":1", metricsSecure: true, leaderElect: true, namespaces: "db,app"}
	got := o.manager(runtime.NewScheme())
	if !got.Metrics.SecureServing || got.Metrics.FilterProvider == nil {
		t.Error("metrics are open to everybody")
	}
	if !got.LeaderElection || !got.LeaderElectionReleaseOnCancel || got.LeaderElectionID == "" {
		t.Errorf("leader election %v, released: %v, ID %q", got.LeaderElection, got.LeaderElectionReleaseOnCancel, got.LeaderElectionID)
	}
	object := &corev1.Service{ObjectMeta: metav1.ObjectMeta{ManagedFields: []metav1.ManagedFieldsEntry{{}}}}
	if _, err := got.Cache.DefaultTransform(object); err != nil || object.ManagedFields != nil {
		t.Errorf("the caches keep who set which field: %v, %v", object.ManagedFields, err)
	}
	if len(got.Cache.DefaultNamespaces) != 2 {
		t.Errorf("the caches watch %v", got.Cache.DefaultNamespaces)
	}
	if !slices.ContainsFunc(got.Client.Cache.DisableFor, func(object client.Object) bool {
		_, secret := object.(*corev1.Secret)
		return secret
	}) {
		t.Error("Secrets are read through a cache, which lists them all")
	}
	if all := (&options{}).manager(runtime.NewScheme()); all.Cache.DefaultNamespaces != nil || all.Metrics.FilterProvider != nil {
		t.Error("without namespaces all are watched, and plain metrics need no filter")
	}
}
