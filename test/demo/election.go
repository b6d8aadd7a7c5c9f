package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	example = "leader-example"
	// replicas selects the example's pods.
	replicas = "app.kubernetes.io/name=" + example
	// handover is how long a new leader may take; a machine that is busy with
	// something else takes its time.
	handover = time.Minute
)

// election has three replicas elect a leader, deletes it, and shows the next one.
func (d *demo) election(ctx context.Context) error {
	if d.existing && os.Getenv("LEADER_ELECTOR_IMAGE") == "" {
		fmt.Println("    left out: LEADER_ELECTOR_IMAGE is not set, and your nodes have to pull it")
		return nil
	}
	if err := d.stream(ctx, "make", "leader-example"); err != nil {
		return err
	}
	d.elects = true
	if err := d.say(ctx, "get", "lease", "example"); err != nil {
		return err
	}
	pods, err := d.replicas(ctx)
	if err != nil {
		return err
	}
	fmt.Println("    Each replica is asked who leads; an application asks by curl localhost:4040.")
	if err := d.askAll(ctx, pods); err != nil {
		return err
	}
	old, err := d.output(ctx, "get", "lease", "example", "-o", "jsonpath={.spec.holderIdentity}")
	if err != nil {
		return err
	}
	start := time.Now()
	if err := d.say(ctx, "delete", "pod", old, "--wait=false"); err != nil {
		return err
	}
	next, err := d.follower(ctx, old, without(pods, old))
	if err != nil {
		return err
	}
	fmt.Printf("    %s leads, %s after the command to delete %s\n", next, seconds(time.Since(start)), old)
	if pods, err = d.replicas(ctx); err != nil {
		return err
	}
	return d.askAll(ctx, pods)
}

// replicas of the example, once three are Ready.
func (d *demo) replicas(ctx context.Context) ([]string, error) {
	if _, err := d.output(ctx, "rollout", "status", "deployment/"+example, "--timeout=60s"); err != nil {
		return nil, err
	}
	out, err := d.output(ctx, "get", "pods", "-l", replicas, "--field-selector=status.phase=Running",
		"-o", `jsonpath={range .items[*]}{.metadata.name}{.metadata.deletionTimestamp}{"\n"}{end}`)
	if err != nil {
		return nil, err
	}
	var pods []string
	for pod := range strings.FieldsSeq(out) {
		// The time of its deletion makes another name of it.
		if !strings.Contains(pod, ":") {
			pods = append(pods, pod)
		}
	}
	return pods, nil
}

// askAll replicas who leads. One that has just started names nobody before it has seen that
// the leader lives.
func (d *demo) askAll(ctx context.Context, pods []string) error {
	for _, pod := range pods {
		path, err := d.proxy(ctx, pod)
		if err != nil {
			return err
		}
		if _, err := d.named(ctx, path, ""); err != nil {
			return err
		}
		if err := d.say(ctx, "get", "--raw", path); err != nil {
			return err
		}
	}
	return nil
}

// proxy is the path by which the API server asks a pod: the example's image has no
// curl.
func (d *demo) proxy(ctx context.Context, pod string) (string, error) {
	namespace, err := d.output(ctx, "get", "pod", pod, "-o", "jsonpath={.metadata.namespace}")
	return "/api/v1/namespaces/" + namespace + "/pods/" + pod + ":4040/proxy/", err
}

// follower waits until the replicas name another leader than the old one.
func (d *demo) follower(ctx context.Context, old string, pods []string) (string, error) {
	if len(pods) == 0 {
		return "", errors.New("there is no replica but the leader, which was deleted")
	}
	path, err := d.proxy(ctx, pods[0])
	if err != nil {
		return "", err
	}
	return d.named(ctx, path, old)
}

// named is who leads as the replica at the path has it, once it is not the old one.
func (d *demo) named(ctx context.Context, path, old string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	for {
		answer, err := d.output(ctx, "get", "--raw", path)
		name := strings.TrimSuffix(strings.TrimPrefix(answer, `{"name":"`), `"}`)
		switch {
		case ctx.Err() != nil:
			return "", fmt.Errorf("waiting for a leader other than %q: %w", old, context.Cause(ctx))
		case err != nil:
			return "", err
		case name != "" && name != old:
			return name, nil
		}
	}
}

func without(all []string, one string) (out []string) {
	for _, s := range all {
		if s != one {
			out = append(out, s)
		}
	}
	return out
}
