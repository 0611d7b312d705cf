// kube is a whole Kubernetes node in one program: etcd, the control plane, the kubelet, kube-proxy and kubectl, linked
// from the modules they are published as, because no archive of ready binaries is needed that way.
// The component is the first argument, or the name by which the program is called:
//
//	kube kube-apiserver --etcd-servers=…
//	kubectl get pods          (a link named kubectl)
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	kubectl "k8s.io/kubectl/pkg/cmd"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kubeproxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
)

// components are the programs whose command is a cobra.Command; etcd parses its arguments itself.
var components = map[string]func() *cobra.Command{
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"kube-proxy":              kubeproxy.NewProxyCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"kubectl":                 kubectl.NewDefaultKubectlCommand,
}

func main() {
	args := slices.Clone(os.Args)
	args[0] = filepath.Base(args[0])
	if _, named := components[args[0]]; !named {
		args = args[1:]
	}
	if len(args) == 0 {
		fail("no component named")
	}
	// Cobra and etcd both read os.Args and expect the component's name first.
	os.Args = args
	if args[0] == "etcd" {
		etcd.Main(args)
		return
	}
	command, ok := components[args[0]]
	if !ok {
		fail(fmt.Sprintf("no component %q", args[0]))
	}
	os.Exit(cli.Run(command()))
}

// fail explains the usage on standard error and ends the program as cobra does for a usage error.
func fail(reason string) {
	fmt.Fprintf(os.Stderr, "kube: %s\nusage: kube etcd|kube-apiserver|kube-controller-manager|kube-scheduler|kube-proxy|kubelet|kubectl [flags]\n", reason)
	os.Exit(2)
}
