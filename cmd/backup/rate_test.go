package main

import (
	"fmt"
	"io"
	"testing"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/job"
)

// What is read from etcd at a rate has to be sent at one: a part of it that goes out at once takes
// the processors of the node from its members. No limit stays none.
func TestTheStoreIsSentToAtTheRate(t *testing.T) {
	t.Parallel()
	for rate, want := range map[int64]int64{0: 0, 1 << 20: 16 << 20, 32 << 20: 32 << 20} {
		o, err := parse(snapshot.OperationDrill, []string{"--store=s3://backups", "--cluster-uid=u", fmt.Sprint("--rate-limit=", rate)}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.storeOf(&job.Tracker{}).SendRate; got != want {
			t.Errorf("at --rate-limit=%d the store is sent %d bytes a second, want %d", rate, got, want)
		}
	}
}
