package leader

import (
	"net"
)

// podLock is held by the one process of a pod that contends in an election.
type podLock struct {
	held     bool
	listener net.Listener
}

// aloneInPod takes the pod's lock: an abstract socket, which the kernel frees when
// the process ends, however it does, and which lives in the network namespace that a
// pod's containers share. A process that has it knows that a predecessor of the same
// pod claims nothing any more.
func aloneInPod(c Config) podLock {
	if c.PodUID == "" || c.Role == Observer {
		return podLock{}
	}
	listener, err := net.Listen("unix", "@leader.quorate.dev/"+c.PodUID+"/"+c.Namespace+"/"+c.Election)
	if err != nil {
		return podLock{}
	}
	return podLock{held: true, listener: listener}
}

func (p podLock) release() {
	if p.listener != nil {
		_ = p.listener.Close()
	}
}
