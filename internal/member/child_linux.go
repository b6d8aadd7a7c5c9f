package member

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"
	"time"
)

// child is the running etcd. done is closed when it has ended, and code then holds
// its exit code, 128+n if signal n ended it.
type child struct {
	process *os.Process
	done    chan struct{}
	code    int
	// words is complete once done is closed.
	words lastWords
}

// start runs argv with the guard's environment, standard input and output,
// untouched, and with lock as a further open file. What it writes to its standard
// error goes to the guard's at once, and is read on the way.
func start(argv []string, lock *os.File) (*child, error) {
	c := &child{done: make(chan struct{})}
	log, end, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	defer end.Close()
	passed := make(chan struct{})
	go func() {
		defer close(passed)
		defer log.Close()
		pass(log, os.Stderr, &c.words)
	}()
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that forked
		// ends, not the process. The goroutine keeps its thread to the end.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		process, err := os.StartProcess(argv[0], argv, &os.ProcAttr{
			Env:   os.Environ(),
			Files: []*os.File{os.Stdin, os.Stdout, end, lock},
			// SIGKILL, because nobody is left to see to it that a gentler one
			// is obeyed, and etcd loses nothing by it.
			Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
		})
		c.process = process
		started <- err
		if err == nil {
			target := process.Pid
			if os.Getpid() == 1 {
				target = anyChild
			}
			c.code = await(process.Pid, target)
			// Whoever inherited etcd's standard error could keep it open.
			_ = log.SetReadDeadline(time.Now().Add(drainBound))
			<-passed
			close(c.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting %s: %w", argv[0], err)
	}
	return c, nil
}

// drainBound bounds the reading of what an ended etcd left in the pipe.
const drainBound = time.Second

// pass copies log to out as it comes, and to words, until log ends. An out that
// fails is given up, not log: an etcd that nobody reads would block, and one that
// cannot write would be ended by SIGPIPE.
func pass(log io.Reader, out io.Writer, words *lastWords) {
	buffer := make([]byte, 8<<10)
	for {
		n, err := log.Read(buffer)
		if n > 0 {
			_, _ = out.Write(buffer[:n])
			_, _ = words.Write(buffer[:n])
		}
		if err != nil {
			return
		}
	}
}

// anyChild makes await reap whatever child ends.
const anyChild = -1

// await reaps pid and returns its exit code. As PID 1 of a container the guard also
// inherits the orphans of others (of a kubectl exec, say) and reaps them on the
// way, with target anyChild, or they would stay as zombies and fill the pod's
// process limit. Otherwise target is pid itself.
func await(pid, target int) int {
	for {
		var status syscall.WaitStatus
		reaped, err := syscall.Wait4(target, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case err != nil:
			// ECHILD: somebody else reaped it. It is gone, by what is unknown.
			return 1
		case reaped != pid:
			continue
		case status.Signaled():
			return 128 + int(status.Signal())
		case status.Exited():
			return status.ExitStatus()
		}
	}
}

// signal passes sig on. The process handle is a pidfd, so that a process ID that
// was given to somebody else meanwhile is never hit; one that ended is no error.
func (c *child) signal(sig os.Signal) {
	_ = c.process.Signal(sig)
}
