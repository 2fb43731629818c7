//! The fields of the `cluster` object that are the same in every sample cluster.

/// From `use_external_mip_script` to `enabled_disk_templates`.
pub(super) const MIDDLE: &str = concat!(
    r#""use_external_mip_script":false,"cluster_name":"demo.example.com","#,
    r#""file_storage_dir":"/srv/ganeti/file-storage","shared_file_storage_dir":"/srv/ganeti/shared-file-storage","#,
    r#""gluster_storage_dir":"/var/run/ganeti/gluster","enabled_hypervisors":["kvm"],"#,
    r#""hvparams":{"kvm":{"acpi":true,"boot_order":"disk","disk_cache":"default","disk_type":"paravirtual","#,
    r#""kernel_args":"ro","kernel_path":"/boot/vmlinuz-3-kvmU","kvm_path":"/usr/bin/kvm","migration_bandwidth":32,"#,
    r#""migration_downtime":30,"migration_port":8102,"nic_type":"paravirtual","root_path":"/dev/vda1","#,
    r#""serial_console":true,"serial_speed":38400,"vhost_net":false,"vnc_bind_address":""}},"#,
    r#""os_hvp":{},"beparams":{"default":{"minmem":128,"maxmem":128,"vcpus":1,"auto_balance":true,"#,
    r#""always_failover":false,"spindle_use":1}},"osparams":{},"osparams_private_cluster":{},"#,
    r#""nicparams":{"default":{"mode":"bridged","link":"br0","vlan":""}},"#,
    r#""ndparams":{"oob_program":"","spindle_count":1,"exclusive_storage":false,"ovs":false,"ovs_name":"switch1","#,
    r#""ovs_link":"","ssh_port":22,"cpu_speed":1},"#,
    r#""diskparams":{"blockdev":{},"diskless":{},"drbd":{"c-delay-target":1,"c-fill-target":0,"c-max-rate":61440,"#,
    r#""c-min-rate":4096,"c-plan-ahead":20,"data-stripes":1,"disk-barriers":"n","disk-custom":"","#,
    r#""dynamic-resync":false,"meta-barriers":false,"meta-stripes":1,"metavg":"xenvg","net-custom":"","#,
    r#""protocol":"C","resync-rate":61440},"ext":{"access":"kernelspace"},"file":{},"#,
    r#""gluster":{"access":"kernelspace","host":"127.0.0.1","port":24007,"volume":"gv0"},"plain":{"stripes":1},"#,
    r#""rbd":{"access":"kernelspace","pool":"rbd"},"sharedfile":{}},"#,
    r#""candidate_pool_size":10,"modify_etc_hosts":true,"modify_ssh_setup":true,"maintain_node_health":false,"#,
    r#""uid_pool":[],"default_iallocator":"hail","default_iallocator_params":{},"hidden_os":[],"#,
    r#""blacklisted_os":[],"primary_ip_family":2,"prealloc_wipe_disks":false,"#,
    r#""ipolicy":{"minmax":[{"min":{"memory-size":128,"cpu-count":1,"disk-size":1024,"disk-count":1,"nic-count":1,"#,
    r#""spindle-use":1},"max":{"memory-size":32768,"cpu-count":8,"disk-size":1048576,"disk-count":16,"#,
    r#""nic-count":8,"spindle-use":12}}],"std":{"memory-size":128,"cpu-count":1,"disk-size":1024,"#,
    r#""disk-count":1,"nic-count":1,"spindle-use":1},"spindle-ratio":32,"vcpu-ratio":4,"#,
    r#""disk-templates":["drbd","plain","file","rbd"]},"hv_state_static":{},"disk_state_static":{},"#,
    r#""enabled_disk_templates":["drbd","plain","file","rbd"]"#,
);

/// From `max_running_jobs` to `ssh_key_bits`.
pub(super) const END: &str = concat!(
    r#""max_running_jobs":20,"max_tracked_jobs":25,"install_image":"","instance_communication_network":"","#,
    r#""zeroing_image":"","compression_tools":["gzip","gzip-fast","gzip-slow"],"enabled_user_shutdown":false,"#,
    r#""data_collectors":{"cpu-avg-load":{"active":true,"interval":5000000},"#,
    r#""diskstats":{"active":true,"interval":5000000},"drbd":{"active":true,"interval":5000000},"#,
    r#""inst-status-xen":{"active":true,"interval":5000000},"lv":{"active":true,"interval":5000000},"#,
    r#""xen-cpu-avg-load":{"active":true,"interval":5000000}},"ssh_key_type":"rsa","ssh_key_bits":2048,"#,
);
