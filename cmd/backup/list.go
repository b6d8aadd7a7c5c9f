package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/quorate/quorate/internal/snapshot"
	"github.com/quorate/quorate/internal/snapshot/job"
)

// doList prints the backups of one cluster, or, without a UID, of every cluster that
// has some below the prefix.
func (o *options) doList(ctx context.Context, env *job.Env, stdout io.Writer) error {
	uids := []string{env.Place.ClusterUID}
	if uids[0] == "" {
		var err error
		if uids, err = env.Clusters(ctx); err != nil {
			return err
		}
	}
	var backups []snapshot.Backup
	var remarks []string
	for _, uid := range uids {
		one := *env
		one.Place.ClusterUID = uid
		catalog, err := one.Catalog(ctx)
		if err != nil {
			return err
		}
		backups = append(backups, catalog.Backups...)
		for id, err := range catalog.Unreadable {
			remarks = append(remarks, id+": "+err.Error())
		}
		for id, err := range catalog.Doubtful {
			remarks = append(remarks, id+": "+err.Error())
		}
		for _, id := range catalog.UnfinishedIDs() {
			remarks = append(remarks, id+": no manifest — it is unfinished, and no backup — prune removes it in time")
		}
	}
	for _, uid := range uids {
		one := *env
		one.Place.ClusterUID = uid
		archives, err := one.Archives(ctx)
		if err != nil {
			return err
		}
		for _, a := range archives {
			remarks = append(remarks, fmt.Sprintf("%s: archive of cluster ID %s: %s, until %s", uid, a.ClusterID, archived(a), a.Until.Format(time.RFC3339)))
		}
	}
	if o.output == "json" {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(backups)
	}
	return printTable(stdout, backups, remarks)
}

// archived says which revisions a run of an archive holds. Of a cluster that nobody has written
// to since there are segments, which hold none.
func archived(a job.Archived) string {
	if a.To < a.From {
		return "nothing yet"
	}
	return fmt.Sprintf("revisions %d to %d", a.From, a.To)
}

func printTable(stdout io.Writer, backups []snapshot.Backup, remarks []string) error {
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CLUSTER\tID\tREVISION\tKEYS\tBYTES\tSTORED\tETCD\tVERIFIED")
	for _, b := range backups {
		verified := "never"
		if b.Verified != nil {
			verified = b.Verified.Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\n", b.ClusterUID, b.ID, b.Revision, b.KeyCount, b.PlainBytes, b.StoredBytes, b.EtcdVersion, verified)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, remark := range remarks {
		fmt.Fprintln(stdout, remark)
	}
	return nil
}
