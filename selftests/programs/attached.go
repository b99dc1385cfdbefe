// SPDX-License-Identifier: GPL-2.0-only

// A Go program for attach.sh and drill.sh: goroutines and its garbage collector work on a map. It answers lines as attached.c
// does; with an argument, a number of seconds, it looks at its content for so long, and ends.
package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync/atomic"
	"time"
)

func main() {
	const entries = 50000
	numbers := make(map[int]*[16]int)
	for i := 0; i < entries; i++ {
		numbers[i] = &[16]int{i, 2 * i, 15: 3 * i}
	}
	var turns [4]int64
	for i := range turns {
		go func(turn *int64) {
			for {
				garbage := make([][]byte, 0)
				for j := 0; j < 100; j++ {
					garbage = append(garbage, make([]byte, 1000))
				}
				atomic.AddInt64(turn, int64(len(garbage)/100))
				time.Sleep(time.Millisecond)
			}
		}(&turns[i])
	}
	fmt.Printf("%p\n", numbers[0])
	isRight := func() bool {
		right := len(numbers) == entries
		for i, number := range numbers {
			right = right && number[0] == i && number[1] == 2*i && number[15] == 3*i
		}
		runtime.GC()
		return right
	}
	if len(os.Args) > 1 {
		seconds, _ := strconv.Atoi(os.Args[1])
		for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
			if !isRight() {
				os.Exit(3)
			}
		}
		return
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		right := isRight()
		var before [4]int64
		for i := range turns {
			before[i] = atomic.LoadInt64(&turns[i])
		}
		time.Sleep(300 * time.Millisecond)
		for i := range turns {
			right = right && atomic.LoadInt64(&turns[i]) > before[i]
		}
		fmt.Println(map[bool]string{true: "right", false: "wrong"}[right])
	}
}
