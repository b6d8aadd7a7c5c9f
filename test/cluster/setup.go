package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// setupAssets builds what tests without a cluster need.
func setupAssets(l layout, p *progress) error {
	return locked(l.path("setup.lock"), p, func() error {
		if err := build(l, p, assetTargets()); err != nil {
			return err
		}
		return linkControlEtcd(l)
	})
}

// setupAll installs and builds all that the cluster needs. When everything is
// there it takes a few milliseconds.
func setupAll(l layout, p *progress) error {
	return locked(l.path("setup.lock"), p, func() error {
		if err := installPackages(p); err != nil {
			return err
		}
		if err := build(l, p, allTargets()); err != nil {
			return err
		}
		if err := linkControlEtcd(l); err != nil {
			return err
		}
		if err := installSelf(l); err != nil {
			return err
		}
		return makeClusterImages(l, p)
	})
}

// lockWait bounds the wait for another run: as long as a cold build takes on a slow machine.
const lockWait = 30 * time.Minute

// locked does work while it holds the lock on path; one process at a time does.
// The lock is gone with the process that held it, however it ended.
func locked(path string, p *progress, work func() error) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("making the state directory: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("opening the lock: %w", err)
	}
	defer file.Close()
	deadline := time.Now().Add(lockWait)
	for told := false; ; told = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return work()
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("waiting for %s: another run held it for %s: %w", path, lockWait, err)
		}
		if !told {
			p.say("waiting for another run, which holds %s", path)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
