package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
)

// TestPermitted: an empty volume is filled only while the operator's order names this
// very backup. What cannot be read permits nothing.
func TestPermitted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "annotations")
	cases := map[string]struct {
		content string
		want    snapshot.Reason
	}{
		"permitted":        {orderRestore + `="the-id"`, ""},
		"taken back":       {`etcd.quorate.dev/may-be-empty="false"`, snapshot.ReasonDataLost},
		"another backup":   {orderRestore + `="other"`, snapshot.ReasonDataLost},
		"nothing":          {"", snapshot.ReasonDataLost},
		"a file of a part": {orderRestore + `="the-`, snapshot.ReasonInternal},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(tc.content), 0o600); err != nil {
				t.Fatal(err)
			}
			err := permitted(path, "the-id")
			var failure *snapshot.Failure
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("permitted() = %v", err)
			case tc.want != "" && (!errors.As(err, &failure) || failure.Reason != tc.want || strings.Count(err.Error(), " — ") != 2):
				t.Errorf("permitted() = %v, want %s in three parts", err, tc.want)
			}
		})
	}
	if err := permitted(path+".absent", "the-id"); err == nil {
		t.Error("without a file it is permitted")
	}
}
