package testbed

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"
)

// Gateway is the machine's own leg in the nodes' network: pods reach it.
const Gateway = "172.30.0.1"

// Keys of every S3 server that StartS3 starts.
const (
	S3KeyID  = "quorate-key-id"
	S3Secret = "quorate-secret-key" //nolint:gosec // of a server that lives as long as a test
)

// s3StartsWithin is long for a machine that does much else.
const s3StartsWithin = 20 * time.Second

// StartS3 runs an S3 server beside the cluster, with one bucket, "backups", that keeps
// its objects as files in dir/backups. It answers at endpoint when StartS3 returns; stop
// ends it. What it says goes to log.
func StartS3(root string, port int, dir string, log io.Writer) (endpoint string, stop func(), err error) {
	if err := os.MkdirAll(filepath.Join(dir, "backups"), 0o700); err != nil {
		return "", nil, fmt.Errorf("making the bucket: %w", err)
	}
	address := net.JoinHostPort(Gateway, strconv.Itoa(port))
	// A store is elsewhere, and takes no processor from the members.
	server := exec.Command("nice", "-n", "19", filepath.Join(root, ".cluster", "bin", "versitygw"), "--port", address, "posix", dir) //nolint:gosec // make setup builds it
	server.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+S3KeyID, "ROOT_SECRET_KEY="+S3Secret)
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return "", nil, fmt.Errorf("starting the S3 server, which make setup builds: %w", err)
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}
	for deadline := time.Now().Add(s3StartsWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			return "http://" + address, stop, conn.Close()
		}
	}
	stop()
	return "", nil, fmt.Errorf("the S3 server does not answer at %s after %s", address, s3StartsWithin)
}
