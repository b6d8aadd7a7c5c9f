package member

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseConfig(t *testing.T) {
	identity := []string{"--cluster-uid=c-1", "--incarnation=1", "--member=m-0000", "--volume-uid=v-1"}
	etcd := []string{"--", "/usr/local/bin/etcd", "--name=m-0000"}
	args := func(parts ...[]string) (all []string) {
		for _, part := range parts {
			all = append(all, part...)
		}
		return all
	}
	for name, tc := range map[string]struct {
		args    []string
		env     string
		wantErr string
	}{
		"what is required":          {args: args(identity, etcd)},
		"data dir elsewhere":        {args: args(identity, []string{"--data-dir=/data"}, etcd), wantErr: "--data-dir=/data is not directly below"},
		"data dir is the volume":    {args: args(identity, []string{"--data-dir=/var/lib/etcd"}, etcd), wantErr: "not directly below"},
		"data dir climbs out":       {args: args(identity, []string{"--data-dir=/var/lib/etcd/../x"}, etcd), wantErr: "not directly below"},
		"data dir too deep":         {args: args(identity, []string{"--data-dir=/var/lib/etcd/a/b"}, etcd), wantErr: "not directly below"},
		"relative volume":           {args: args(identity, []string{"--volume=v", "--data-dir=v/data"}, etcd), wantErr: "not directly below"},
		"no identity":               {args: etcd, wantErr: "required"},
		"no incarnation":            {args: args(identity[:1], identity[2:], etcd), wantErr: "required"},
		"no etcd":                   {args: identity, wantErr: "missing after --"},
		"health over https":         {args: args(identity, []string{"--etcd-health=https://127.0.0.1:2382"}, etcd), wantErr: "not an http URL"},
		"unknown flag":              {args: args([]string{"--x"}, identity, etcd), wantErr: "not defined"},
		"etcd with a log elsewhere": {args: args(identity, etcd, []string{"--wal-dir=/x"}), wantErr: "--wal-dir=/x is not the caller's"},
		"etcd with a data dir":      {args: args(identity, etcd, []string{"-data-dir", "/x"}), wantErr: "-data-dir is not the caller's"},
		"etcd with a config file":   {args: args(identity, etcd, []string{"--config-file=/x"}), wantErr: "--config-file=/x"},
		"etcd with a member list":   {args: args(identity, etcd, []string{"--initial-cluster=x"}), wantErr: "--initial-cluster=x"},
		"etcd with a token":         {args: args(identity, etcd, []string{"--initial-cluster-token=x"})},
		"log elsewhere by variable": {args: args(identity, etcd), env: "ETCD_WAL_DIR", wantErr: "ETCD_WAL_DIR=/x"},
		"config file by variable":   {args: args(identity, etcd), env: "ETCD_CONFIG_FILE", wantErr: "ETCD_CONFIG_FILE=/x"},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.env != "" {
				t.Setenv(tc.env, "/x")
			}
			got, err := ParseConfig(tc.args, io.Discard)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Fatalf("error %v, want one with %q", err, tc.wantErr)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(own, got.Identity); diff != "" {
				t.Errorf("identity (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefaultsAreTheContractWithTheOperator(t *testing.T) {
	got, err := ParseConfig([]string{"--cluster-uid=c-1", "--incarnation=1", "--member=m-0000", "--volume-uid=v-1", "--", "etcd"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Volume: "/var/lib/etcd", DataDir: "/var/lib/etcd/data", BootDir: "/run/quorate/boot",
		Annotations: "/etc/quorate/annotations", Identity: own, HealthListen: ":8081",
		EtcdHealth: "http://127.0.0.1:2382", TerminationLog: "/dev/termination-log", Etcd: []string{"etcd"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// TestTheMemberAdvertisesWhatTheListHas, or etcd would refuse it at its first start.
func TestTheMemberAdvertisesWhatTheListHas(t *testing.T) {
	c := Config{Identity: Identity{Member: "m-0001"}, DataDir: "/d", Etcd: []string{"etcd", "--initial-advertise-peer-urls=https://m-0001:2380", "--name=m-0001"}}
	for list, want := range map[string]string{
		"m-0000=http://m-0000:2380,m-0001=http://m-0001:2380": "http://m-0001:2380",
		"m-0000=http://m-0000:2380,m-00011=http://x:2380":     "https://m-0001:2380",
	} {
		var urls []string
		arguments := c.etcdArguments(Annotations{InitialCluster: list, InitialClusterState: ClusterStateExisting})
		for _, argument := range arguments {
			if url, found := strings.CutPrefix(argument, "--initial-advertise-peer-urls="); found {
				urls = append(urls, url)
			}
		}
		if len(urls) != 1 || urls[0] != want || arguments[0] != "etcd" || !slices.Contains(arguments, "--name=m-0001") {
			t.Errorf("%s: %v, want %s", list, arguments, want)
		}
	}
}

func TestLogLinesLookLikeEtcds(t *testing.T) {
	var output bytes.Buffer
	NewLogger(&output).Warn("Something", "error", "line\nbreak")
	var line map[string]string
	if err := json.Unmarshal(output.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse("2006-01-02T15:04:05.000000Z0700", line["ts"]); err != nil {
		t.Errorf("time stamp: %v", err)
	}
	delete(line, "ts")
	want := map[string]string{"level": "warn", "msg": "Something", "logger": "guard", "error": "line\nbreak"}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestInstall(t *testing.T) {
	directory := t.TempDir()
	destination := filepath.Join(directory, "member")
	for range 2 { // an init container that runs again finds its own work
		if err := Install(destination); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied, err := os.ReadFile(destination)
	if err != nil || !bytes.Equal(self, copied) {
		t.Errorf("copy differs from the executable, error %v", err)
	}
	if info, err := os.Stat(destination); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, error %v, want 0755", info.Mode(), err)
	}
	if entries, err := os.ReadDir(directory); err != nil || len(entries) != 1 {
		t.Errorf("%d files, error %v, want no temporary ones left", len(entries), err)
	}
	if err := Install(filepath.Join(directory, "gone", "member")); err == nil {
		t.Error("installed into a directory that does not exist")
	}
	if err := Install(directory); err == nil {
		t.Error("installed over a directory")
	}
}
