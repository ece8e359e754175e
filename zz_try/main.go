package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"thriftc/backends"
	"thriftc/backends/interp"
	"thriftc/ir/onnxio"
	"thriftc/ir/ops"
	"thriftc/ir/tensor"
)

func main() {
	for _, p := range os.Args[1:] {
		t0 := time.Now()
		g, err := onnxio.Read(p, ops.Table())
		if err != nil {
			fmt.Println(p, "ERR", err)
			continue
		}
		tr := time.Since(t0)
		dirs, _ := filepath.Glob(filepath.Dir(p) + "/test_data_set_*")
		if len(dirs) == 0 {
			fmt.Println(p, "read", tr, "no pairs")
			continue
		}
		exe, err := interp.New().Compile(context.Background(), g, backends.Options{Threads: 2})
		if err != nil {
			fmt.Println(p, "COMPILE", err)
			continue
		}
		var in []*tensor.Tensor
		for i := range g.Inputs {
			t, _, err := onnxio.ReadTensor(fmt.Sprintf("%s/input_%d.pb", dirs[0], i))
			if err != nil {
				fmt.Println(err)
			}
			in = append(in, t)
		}
		t0 = time.Now()
		out, err := exe.Run(context.Background(), in)
		if err != nil {
			fmt.Println(p, "RUN", err)
			continue
		}
		t1 := time.Since(t0)
		t0 = time.Now()
		exe.Run(context.Background(), in)
		t2 := time.Since(t0)
		worst := 0.0
		for i := range out {
			w, _, err := onnxio.ReadTensor(fmt.Sprintf("%s/output_%d.pb", dirs[0], i))
			if err != nil {
				fmt.Println(err)
				continue
			}
			a, b := out[i].Float64s(), w.Float64s()
			for j := range a {
				d := a[j] - b[j]
				if d < 0 {
					d = -d
				}
				if d > worst {
					worst = d
				}
			}
		}
		fmt.Println(filepath.Base(filepath.Dir(p)), "read", tr, "run", t1, t2, "worst", worst)
		exe.Close()
	}
}
