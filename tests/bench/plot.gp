# The plot of scripts/bench.sh: gnuplot -e "data='…'; out='…'" plot.gp
set terminal pngcairo size 1200,1400
set output out
set datafile separator "\t"
set datafile missing "?"
set style data histogram
set style histogram clustered gap 1
set style fill solid 0.8 border -1
set xtics rotate by -25 noenhanced
set grid ytics
set key above right
set logscale y
set format y "%.0f"
set multiplot layout 3,1
set ylabel "operations per second"
plot data using 2:xtic(1) every ::1 title "ours", "" using 3 every ::1 title "etcd"
set ylabel "server CPU, us per operation"
plot data using 4:xtic(1) every ::1 title "ours", "" using 5 every ::1 title "etcd"
set ylabel "p99 latency, us"
plot data using 6:xtic(1) every ::1 title "ours", "" using 7 every ::1 title "etcd"
unset multiplot
